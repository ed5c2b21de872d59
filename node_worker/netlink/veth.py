"""A pod's endpoint on a bridge: a veth pair, one end a port of the host's bridge, the other in the pod."""

import errno
import time
from contextlib import ExitStack
from dataclasses import replace

from node_worker.netlink.batch import (
    End,
    RoutingSocket,
    add_address,
    announce_ipv4,
    change_link,
    generate_ipv6,
    make_veth,
    remove_link,
    without_ipv6,
)
from node_worker.netlink.namespace import Netns
from node_worker.netlink.routes import made_routes, route_messages
from node_worker.netlink.session import Link, Refused, inside, link_index, named_links, write_sysctl
from node_worker.plan import EndpointPlan, IPInterface, KernelRoute, LinkPlan
from schemas.errors import Code, ServiceError

LOOPBACK = 1
"""The index of lo, in every namespace."""
_PORT_READY_S = 0.25
_PORT_POLL_S = 0.0001


def has_link(netns: Netns, name: str) -> bool:
    """Whether the namespace has a link of that name."""
    with netns.entered():
        return link_index(name) is not None


def link_names(netns: Netns) -> set[str]:
    """The names of all links of a namespace."""
    with netns.entered():
        return set(named_links().values())


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


class PreparedVeth:
    """The pair of an endpoint, up and without any address: nothing is heard from it yet."""

    def __init__(self, plan: LinkPlan, pod: Netns, outside: RoutingSocket, undo: ExitStack) -> None:
        """For `prepare_veth`: looks into the pod. `outside` is this object's to close, `undo` undoes it."""
        self._plan, self._pod = plan, pod
        self._outside = outside
        with pod.entered():
            self._inside = undo.enter_context(RoutingSocket())
            self._index = link_index(plan.ifname) or 0

    def start(self) -> None:
        """Bring the pod's end up, so that the host's forwards when it is needed."""
        plan, link = self._plan, self._index
        if link == 0:
            raise Refused(f"find {plan.ifname} in the pod", errno.ENODEV)
        announce, up = announce_ipv4(link, plan.ifname), change_link(link, plan.ifname, up=True)
        loopback = change_link(LOOPBACK, "lo", up=True)
        self._inside.do([announce, without_ipv6(link, plan.ifname), up, loopback])
        _await_forwarding(self._outside, plan.host_link)

    def complete(self, plan: EndpointPlan) -> EndpointPlan:
        """Give the pair what `plan` has, and announce its addresses to the network; what came of the plan.

        A route that the pod has already, by another interface, stays as it is. When it fails nothing of the
        endpoint is left. Raises ServiceError `kernel_refused`.
        """
        try:
            if plan.mtu != self._plan.mtu:
                self._outside.do([change_link(0, plan.host_link, mtu=plan.mtu)])
            if any(address.version == 6 for address in plan.addresses):
                return self._complete_with_ipv6(plan)
            return self._complete(plan)
        except BaseException:
            self._outside.do([remove_link(0, plan.host_link)])
            raise

    def ear(self) -> tuple[Netns, str]:
        """See `drivers.Prepared`."""
        return self._pod, self._plan.ifname

    def close(self) -> None:
        """Let go of the kernel's sockets. The pair stays. Safe to call twice."""
        self._outside.close()
        self._inside.close()

    def _complete(self, plan: EndpointPlan) -> EndpointPlan:
        """The MAC last, for setting it makes the kernel announce the addresses (arp_notify)."""
        addresses = [add_address(self._index, address) for address in plan.addresses]
        mac = change_link(self._index, plan.ifname, mac=plan.mac, mtu=plan.mtu)
        done = self._inside.do([*addresses, mac, *route_messages(self._index, plan)])
        return replace(plan, routes=made_routes(plan, done))

    def _complete_with_ipv6(self, plan: EndpointPlan) -> EndpointPlan:
        """The pod's end comes up once more: its link-local address is made of its MAC then (RFC 4291)."""
        with self._pod.entered():
            prepare_ipv6(plan.ifname)
        mac = change_link(self._index, plan.ifname, mac=plan.mac, mtu=plan.mtu)
        down, up = (change_link(self._index, plan.ifname, up=state) for state in (False, True))
        addresses = [add_address(self._index, address) for address in plan.addresses]
        with_ipv6 = generate_ipv6(self._index, plan.ifname)
        routes = route_messages(self._index, plan)
        done = self._inside.do([down, with_ipv6, mac, *addresses, up, *routes])
        _await_forwarding(self._outside, plan.host_link)
        # The announcement at link up may have met a port that did not forward yet: have it repeated.
        self._inside.do([mac])
        return replace(plan, routes=made_routes(plan, done))


def prepare_veth(host: Netns, pod: Netns, plan: LinkPlan) -> PreparedVeth:
    """Make the pair of an endpoint, for the caller to complete and to close.

    When it fails nothing of it is left. Raises ServiceError: `interface_exists`, `network_not_ready` (the
    bridge is away), `link_conflict`, `kernel_refused`.
    """
    with host.entered(), ExitStack() as undo:
        outside = undo.enter_context(RoutingSocket())
        _make_pair(outside, pod, plan)
        undo.callback(_remove, outside, plan.host_link)
        prepared = PreparedVeth(plan, pod, outside, undo)
        prepared.start()
        undo.pop_all()
        return prepared


def _make_pair(outside: RoutingSocket, pod: Netns, plan: LinkPlan) -> None:
    master = link_index(plan.bridge)
    if master is None:
        raise _without_bridge(plan)
    outer = End(plan.host_link, plan.mtu, plan.host_mac)
    inner = End(plan.ifname, plan.mtu)
    try:
        # The host's end says nothing by itself: every broadcast reaches every pod of the network.
        quiet, up = without_ipv6(0, plan.host_link), change_link(0, plan.host_link, up=True)
        outside.do([make_veth(outer, inner, pod.fd, master), quiet, up])
    except Refused as refusal:
        if refusal.errno == errno.EEXIST:
            raise _taken(plan) from refusal
        _remove(outside, plan.host_link)
        raise


def cut_veth(host: Netns, name: str) -> None:
    """Stop all traffic of an endpoint, quickly. One that is away already is fine."""
    with host.entered(), RoutingSocket() as kernel:
        try:
            kernel.do([change_link(0, name, up=False)])
        except Refused as refusal:
            if refusal.errno != errno.ENODEV:
                raise


def remove_veth(host: Netns, name: str) -> None:
    """Remove an endpoint by its host link: the pod's end goes with it. Safe to call twice."""
    with host.entered(), RoutingSocket() as kernel:
        _remove(kernel, name)


def _remove(kernel: RoutingSocket, name: str) -> None:
    """Remove a link of the namespace that the thread is in; one that is away already is fine."""
    kernel.do([remove_link(0, name)])


def _without_bridge(plan: LinkPlan) -> ServiceError:
    return ServiceError(
        Code.NETWORK_NOT_READY,
        f"bridge {plan.bridge} of network {plan.network} is missing on this node; it is made again in a "
        "moment: try again",
        network=plan.network,
    )


def _taken(plan: LinkPlan) -> ServiceError:
    if link_index(plan.host_link) is not None:
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


def prepare_ipv6(ifname: str) -> None:
    """Runtimes may switch IPv6 off by default. Addresses come from the allocator, never from a router."""
    write_sysctl(f"net/ipv6/conf/{ifname}/disable_ipv6", 0)
    write_sysctl(f"net/ipv6/conf/{ifname}/accept_ra", 0)
    write_sysctl(f"net/ipv6/conf/{ifname}/ndisc_notify", 1)


def _await_forwarding(outside: RoutingSocket, port: str) -> None:
    """Wait until the bridge lets the port's frames through: the kernel tells it so a moment after link up.

    What the pod says before that is lost, and its announcement is said once.
    """
    until = time.monotonic() + _PORT_READY_S
    while outside.forwards(port) is False and time.monotonic() < until:
        time.sleep(_PORT_POLL_S)
