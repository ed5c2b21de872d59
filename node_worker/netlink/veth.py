"""A pod's endpoint on a bridge: a veth pair, one end a port of the host's bridge, the other in the pod."""

import errno
import time

from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import (
    Link,
    Refused,
    Session,
    inside,
    switch_off_ipv6,
    write_sysctl,
)
from node_worker.plan import EndpointPlan, IPInterface, KernelRoute
from schemas.errors import Code, ServiceError

_PORT_READY_S = 0.25
_PORT_POLL_S = 0.001


def has_link(netns: Netns, name: str) -> bool:
    """Whether the namespace has a link of that name."""
    with inside(netns) as links:
        return links.find(name) is not None


def link_names(netns: Netns) -> set[str]:
    """The names of all links of a namespace."""
    with inside(netns) as links:
        return {link.name for link in links.all()}


def look_outside(host: Netns, name: str) -> tuple[Link | None, str | None]:
    """The host's end of an endpoint, and the name of the bridge that it is a port of."""
    with inside(host) as links:
        link = links.find(name)
        bridge = links.at(link.master) if link is not None and link.master is not None else None
        return link, bridge.name if bridge is not None else None


def look_inside(pod: Netns, ifname: str) -> tuple[Link | None, list[IPInterface], list[KernelRoute]]:
    """The pod's end of an endpoint, its addresses, and the routes through it."""
    with inside(pod) as links:
        link = links.find(ifname)
        if link is None:
            return None, [], []
        return link, links.addresses(link.index), links.routes(link.index)


def attach_veth(host: Netns, pod: Netns, plan: EndpointPlan) -> None:
    """Make the endpoint that `plan` describes, and announce its addresses to the network.

    When it fails nothing of it is left. Raises ServiceError: `interface_exists`, `network_not_ready` (the
    bridge is away), `link_conflict`, `kernel_refused`.
    """
    with inside(host) as outer:
        _make_pair(outer, pod, plan)
        try:
            switch_off_ipv6(plan.host_link)
            with inside(pod) as inner:
                _configure(inner, plan)
                _await_forwarding(outer, plan.host_link)
                # The announcement at link up may have met a port that did not forward yet. Setting the MAC
                # again makes the kernel repeat it, so that switches learn where an address that moved now is.
                inner.change(plan.ifname, address=plan.mac)
        except BaseException:
            outer.remove(plan.host_link)
            raise


def cut_veth(host: Netns, name: str) -> None:
    """Stop all traffic of an endpoint, quickly. One that is away already is fine."""
    with inside(host) as links:
        try:
            links.change(name, state="down")
        except Refused as refusal:
            if refusal.errno != errno.ENODEV:
                raise


def remove_veth(host: Netns, name: str) -> None:
    """Remove an endpoint by its host link: the pod's end goes with it. Safe to call twice."""
    with inside(host) as links:
        links.remove(name)


def _make_pair(links: Session, pod: Netns, plan: EndpointPlan) -> None:
    bridge = links.find(plan.bridge)
    if bridge is None:
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"bridge {plan.bridge} of network {plan.network} is missing on this node; it is made again in a "
            "moment: try again",
            network=plan.network,
        )
    peer = {"ifname": plan.ifname, "net_ns_fd": pod.fd, "address": plan.mac, "mtu": plan.mtu}
    try:
        links.add(
            plan.host_link,
            "veth",
            address=plan.host_mac,
            mtu=plan.mtu,
            master=bridge.index,
            state="up",
            peer=peer,
        )
    except Refused as refusal:
        if refusal.errno != errno.EEXIST:
            raise
        raise _taken(links, plan) from refusal


def _taken(links: Session, plan: EndpointPlan) -> ServiceError:
    if links.find(plan.host_link) is not None:
        return ServiceError(
            Code.LINK_CONFLICT,
            f"this node already has a link {plan.host_link}: remove it (ip link del {plan.host_link})",
            link=plan.host_link,
        )
    return interface_exists(plan.ifname, pod="the pod")


def interface_exists(ifname: str, pod: str) -> ServiceError:
    """The refusal of an ADD for an interface that is there already (SPEC, section 4, ADD)."""
    return ServiceError(
        Code.INTERFACE_EXISTS,
        f"{pod} already has an interface {ifname}: delete it, or attach under another name",
        ifname=ifname,
    )


def _configure(links: Session, plan: EndpointPlan) -> None:
    """Inside the pod: addresses before the link comes up, so that the kernel announces them then."""
    _set_sysctls(plan)
    link = links.find(plan.ifname)
    if link is None:
        raise Refused(f"find {plan.ifname} in the pod", errno.ENODEV)
    for address in plan.addresses:
        links.add_address(link.index, address)
    links.change(plan.ifname, state="up")
    links.change("lo", state="up")
    for route in plan.routes:
        links.add_route(link.index, route.destination, route.via)


def _set_sysctls(plan: EndpointPlan) -> None:
    families = {address.version for address in plan.addresses}
    if 4 in families:
        write_sysctl(f"net/ipv4/conf/{plan.ifname}/arp_notify", 1)
    if 6 in families:
        # Runtimes may switch IPv6 off by default. Addresses come from the allocator, never from a router.
        write_sysctl(f"net/ipv6/conf/{plan.ifname}/disable_ipv6", 0)
        write_sysctl(f"net/ipv6/conf/{plan.ifname}/accept_ra", 0)
        write_sysctl(f"net/ipv6/conf/{plan.ifname}/ndisc_notify", 1)


def _await_forwarding(links: Session, name: str) -> None:
    """Wait until the bridge lets the port's frames through: the kernel tells it so a moment after link up."""
    until = time.monotonic() + _PORT_READY_S
    while time.monotonic() < until:
        port = links.find(name)
        if port is None or port.forwarding:
            return
        time.sleep(_PORT_POLL_S)
