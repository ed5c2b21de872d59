"""CHECK: whether an endpoint is still what the runtime was told (SPEC, section 2, CHECK). Pure.

What is expected stands in prevResult, for plugins after ours in the chain may have changed what we made (a
MAC, for instance) and said so there. What is not expected there any more is theirs too, and not looked at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from cni.errors import CniError, SpecCode
from node_worker.attachments import Attachment, IPInterface
from node_worker.plan import KernelRoute
from schemas.errors import Code, ServiceError


@dataclass(frozen=True, slots=True)
class Found:
    """What the kernel has of an endpoint. `mac` is None where the pod has no such interface."""

    mac: str | None
    up: bool
    addresses: tuple[IPInterface, ...]
    routes: tuple[KernelRoute, ...]
    host_link: bool
    host_up: bool
    bridge: str | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What prevResult says of our interface. `mac` is None where it says nothing of one."""

    mac: str | None
    addresses: tuple[IPInterface, ...]
    routes: tuple[KernelRoute, ...]


def expected(
    prev_result: Mapping[str, Any] | None, attachment: Attachment, *, delegated: bool = False
) -> Expected:
    """Our part of prevResult: where another plugin delegates to us, the addresses. Raises `CniError` 7."""
    if not prev_result:
        raise _unusable("is missing: CHECK needs what ADD returned")
    try:
        wanted = _read(prev_result, attachment)
        return replace(wanted, mac=None, routes=()) if delegated else wanted
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise _unusable(f"cannot be read ({error}): it must be what ADD returned") from error


def complain(attachment: Attachment, wanted: Expected, found: Found) -> None:
    """Raise ServiceError `endpoint_broken`, naming all that is missing or other than it should be."""
    faults = list(_faults(attachment, wanted, found))
    if faults:
        raise ServiceError(
            Code.ENDPOINT_BROKEN,
            f"{attachment.container_id} {attachment.ifname} on network {attachment.network} is not as it was "
            f"attached: {'; '.join(faults)}. Delete the pod, its next sandbox is attached anew",
            container_id=attachment.container_id,
            faults=faults,
        )


def _read(prev_result: Mapping[str, Any], attachment: Attachment) -> Expected:
    interfaces = prev_result.get("interfaces") or []
    ours = [
        index
        for index, item in enumerate(interfaces)
        if item.get("sandbox") and item.get("name") == attachment.ifname
    ]
    mac = next((interfaces[index].get("mac") for index in ours if interfaces[index].get("mac")), None)
    mine = set(attachment.addresses)
    entries = [
        (ip_interface(item["address"]), item.get("gateway"))
        for item in prev_result.get("ips") or []
        if item.get("interface") is None or item["interface"] in ours
    ]
    held = [(address, gateway) for address, gateway in entries if address in mine]
    if not held:
        raise ValueError(f"it names none of the addresses of {attachment.ifname}")
    gateways = {ip_address(gateway) for _, gateway in held if gateway}
    routes = [
        (ip_network(item["dst"]), ip_address(item["gw"]))
        for item in prev_result.get("routes") or []
        if item.get("gw") and ip_address(item["gw"]) in gateways
    ]
    return Expected(mac.lower() if mac else None, tuple(address for address, _ in held), tuple(routes))


def _faults(attachment: Attachment, wanted: Expected, found: Found) -> Iterator[str]:
    yield from _faults_outside(attachment, found)
    ifname = attachment.ifname
    if found.mac is None:
        yield f"the pod has no interface {ifname}"
        return
    if not found.up:
        yield f"{ifname} is down"
    if wanted.mac not in (None, found.mac):
        yield f"{ifname} has MAC {found.mac}, not {wanted.mac}"
    lost = [address for address in wanted.addresses if address not in found.addresses]
    yield from (f"{ifname} has no address {address}" for address in lost)
    away = [route for route in wanted.routes if route not in found.routes]
    yield from (f"there is no route {destination} via {via}" for destination, via in away)


def _faults_outside(attachment: Attachment, found: Found) -> Iterator[str]:
    if not found.host_link:
        yield f"the host's end {attachment.host_link} is gone"
    elif not found.host_up:
        yield f"the host's end {attachment.host_link} is down"
    elif found.bridge != attachment.bridge:
        yield f"{attachment.host_link} is no port of bridge {attachment.bridge}"


def _unusable(why: str) -> CniError:
    return CniError(SpecCode.INVALID_CONFIG, f"prevResult {why}")
