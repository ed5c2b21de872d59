"""What a verb prints: an ADD's result or an error, in the shape of the asked cniVersion (SPEC, section 5)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from cni.errors import CniError

_WITH_IP_VERSION = frozenset({"0.3.1", "0.4.0"})
_WITH_MTU = frozenset({"1.1.0"})


@dataclass(frozen=True)
class Interface:
    """A link that the plugin made; `sandbox` is CNI_NETNS for the pod's end, None for the host's."""

    name: str
    mac: str
    sandbox: str | None = None
    mtu: int | None = None


@dataclass(frozen=True)
class Ip:
    """An address with its subnet's prefix; `interface` counts within this result's own interfaces."""

    address: IPv4Interface | IPv6Interface
    gateway: IPv4Address | IPv6Address | None
    interface: int | None


@dataclass(frozen=True)
class Route:
    """A route in the pod. Without `gw` the runtime takes the interface's gateway."""

    dst: IPv4Network | IPv6Network
    gw: IPv4Address | IPv6Address | None


@dataclass(frozen=True)
class CniResult:
    """What one ADD made, free of any cniVersion. An IPAM delegate's has no interfaces."""

    interfaces: tuple[Interface, ...]
    ips: tuple[Ip, ...]
    routes: tuple[Route, ...]


def render(
    result: CniResult, cni_version: str, prev_result: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`result` in the shape of `cni_version`, behind what `prev_result` (of the same version) brought.

    `prev_result`'s entries and unknown keys stay as they are; our interface indexes move behind its own.
    """
    document: dict[str, Any] = dict(prev_result or {})
    interfaces = list(document.get("interfaces") or [])
    shift = len(interfaces)
    interfaces += [_interface(item, cni_version) for item in result.interfaces]
    document["cniVersion"] = cni_version
    if interfaces:
        document["interfaces"] = interfaces
    document["ips"] = [*(document.get("ips") or []), *(_ip(ip, cni_version, shift) for ip in result.ips)]
    document["routes"] = [*(document.get("routes") or []), *map(_route, result.routes)]
    document["dns"] = document.get("dns") or {}
    return document


def render_error(error: CniError, cni_version: str) -> dict[str, Any]:
    """The error object that goes to standard output with exit status 1."""
    return {"cniVersion": cni_version, "code": error.code, "msg": error.msg, "details": error.details}


def encode(document: Mapping[str, Any]) -> bytes:
    """`document` as the bytes for standard output. Raises ValueError for NaN and infinity: JSON has none."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _interface(interface: Interface, cni_version: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"name": interface.name, "mac": interface.mac}
    if interface.mtu is not None and cni_version in _WITH_MTU:
        shape["mtu"] = interface.mtu
    if interface.sandbox is not None:
        shape["sandbox"] = interface.sandbox
    return shape


def _ip(ip: Ip, cni_version: str, shift: int) -> dict[str, Any]:
    shape: dict[str, Any] = {"address": str(ip.address)}
    if cni_version in _WITH_IP_VERSION:
        shape["version"] = str(ip.address.version)
    if ip.gateway is not None:
        shape["gateway"] = str(ip.gateway)
    if ip.interface is not None:
        shape["interface"] = ip.interface + shift
    return shape


def _route(route: Route) -> dict[str, Any]:
    shape: dict[str, Any] = {"dst": str(route.dst)}
    if route.gw is not None:
        shape["gw"] = str(route.gw)
    return shape
