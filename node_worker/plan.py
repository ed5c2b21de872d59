"""What an endpoint will look like, decided from the allocator's answer before anything is made. Pure."""

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from uuid import UUID

from cni.result import CniResult, Interface, Ip, Route
from schemas.address import Allocated
from schemas.fields import IPAddress

IPInterface = IPv4Interface | IPv6Interface
KernelRoute = tuple[IPv4Network | IPv6Network, IPAddress | None]
"""Where a route leads, and through which gateway."""

NETWORK_LINKS = ("mo-", "mt-")
"""What the names of bridges and tunnels of networks begin with."""
_IFNAME_BYTES = 15  # IFNAMSIZ less its NUL, linux/if.h
_DEFAULT = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """One route in the pod."""

    destination: IPv4Network | IPv6Network
    via: IPAddress


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """What a driver makes of an endpoint before its addresses are known. `mtu` in bytes.

    `host_link` is empty where nothing of the endpoint is on the host.
    """

    network: str
    bridge: str
    host_link: str
    host_mac: str
    ifname: str
    mtu: int


@dataclass(frozen=True, slots=True)
class EndpointPlan(LinkPlan):
    """Everything a driver needs to make an endpoint."""

    mac: str
    addresses: tuple[IPInterface, ...]
    routes: tuple[PlannedRoute, ...]


def host_link_name(attachment_id: UUID) -> str:
    """The host's end of an attachment: known from its id alone, also when the journal was lost."""
    return "mo" + _hash(str(attachment_id))[:13]


def bridge_name(network: str) -> str:
    """The bridge of a network: `mo-` and its name, or a hash of it where that is too long for Linux."""
    name = f"mo-{network}"
    return name if len(name.encode()) <= _IFNAME_BYTES else f"mo-{_hash(network)[:12]}"


def tunnel_name(network: str) -> str:
    """The tunnel device of a network: `mt-` and its name, or a hash where that is too long for Linux."""
    name = f"mt-{network}"
    return name if len(name.encode()) <= _IFNAME_BYTES else f"mt-{_hash(network)[:12]}"


def plan_link(network: str, attachment_id: UUID, ifname: str, mtu: int) -> LinkPlan:
    """The links of an attachment: known as soon as it has an id. `mtu` in bytes."""
    digits = _hash(f"host end of {attachment_id}")
    return LinkPlan(
        network=network,
        bridge=bridge_name(network),
        host_link=host_link_name(attachment_id),
        host_mac=":".join(["0e", *(digits[at : at + 2] for at in range(0, 10, 2))]),
        ifname=ifname,
        mtu=mtu,
    )


def plan_endpoint(allocated: Allocated, ifname: str) -> EndpointPlan:
    """The endpoint for what the allocator gave: one default route for each family that has a gateway."""
    routes: dict[int, PlannedRoute] = {}
    for given in allocated.addresses:
        if given.gateway is not None:
            route = PlannedRoute(_DEFAULT[given.address.version], given.gateway)
            routes.setdefault(given.address.version, route)
    link = plan_link(allocated.network, allocated.attachment_id, ifname, allocated.mtu)
    return EndpointPlan(
        network=link.network,
        bridge=link.bridge,
        host_link=link.host_link,
        host_mac=link.host_mac,
        ifname=link.ifname,
        mtu=link.mtu,
        mac=allocated.mac,
        addresses=tuple(ip_interface(f"{given.address}/{given.prefix}") for given in allocated.addresses),
        routes=tuple(routes.values()),
    )


def result(plan: EndpointPlan, allocated: Allocated, netns: str) -> CniResult:
    """What the runtime is told: the host's end, if any, the pod's end in `netns`, addresses and routes."""
    inner = Interface(name=plan.ifname, mac=plan.mac, sandbox=netns, mtu=plan.mtu)
    outer = Interface(name=plan.host_link, mac=plan.host_mac, mtu=plan.mtu)
    interfaces = (outer, inner) if plan.host_link else (inner,)
    ips = tuple(
        Ip(address=address, gateway=given.gateway, interface=interfaces.index(inner))
        for address, given in zip(plan.addresses, allocated.addresses, strict=True)
    )
    return CniResult(interfaces, ips, tuple(Route(route.destination, route.via) for route in plan.routes))


def delegated_result(plan: EndpointPlan, allocated: Allocated) -> CniResult:
    """What a plugin that asks for addresses alone is told (SPEC, section 5, delegated plugins)."""
    ips = tuple(
        Ip(address=address, gateway=given.gateway, interface=None)
        for address, given in zip(plan.addresses, allocated.addresses, strict=True)
    )
    return CniResult((), ips, tuple(Route(route.destination, route.via) for route in plan.routes))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
