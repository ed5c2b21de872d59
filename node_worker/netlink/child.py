"""A pod's endpoint right beside the node's interface: macvlan or ipvlan, and nothing of it on the host.

Sources: linux/if_link.h; Documentation/networking/ipvlan.rst in the kernel.
"""

import errno
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

from node_worker.netlink.access import grant
from node_worker.netlink.batch import (
    End,
    RoutingSocket,
    add_address,
    announce_ipv4,
    change_link,
    generate_ipv6,
    make_child,
    remove_link,
    without_ipv6,
)
from node_worker.netlink.namespace import Netns
from node_worker.netlink.routes import made_routes, route_messages
from node_worker.netlink.session import Refused, inside, link_index
from node_worker.netlink.veth import LOOPBACK, interface_exists, prepare_ipv6, remove_veth
from node_worker.plan import EndpointPlan, LinkPlan
from schemas.errors import Code, ServiceError
from schemas.fields import IPNetwork

Kind = Literal["macvlan", "ipvlan"]


@dataclass(frozen=True, slots=True)
class Parent:
    """The node's interface that a network's pods are beside, and how."""

    name: str
    kind: Kind
    mode: str
    host_access: bool = False
    services: tuple[IPNetwork, ...] = ()


class PreparedChild:
    """The interface in the pod, down and without any address."""

    def __init__(self, plan: LinkPlan, parent: Parent, host: Netns, pod: Netns, undo: ExitStack) -> None:
        """For `prepare_child`: looks into the pod."""
        self._plan, self._parent, self._host, self._pod = plan, parent, host, pod
        with pod.entered():
            self._inside = undo.enter_context(RoutingSocket())
            self._index = link_index(plan.ifname) or 0
        if self._index == 0:
            raise Refused(f"find {plan.ifname} in the pod", errno.ENODEV)

    def start(self) -> None:
        """Bring it up, so that the segment is heard. An ipvlan's hears nothing without an address."""
        name, up = self._plan.ifname, []
        if self._parent.kind == "macvlan":
            up = [change_link(self._index, name, up=True)]
        quiet = [announce_ipv4(self._index, name), without_ipv6(self._index, name)]
        self._inside.do([*quiet, *up, change_link(LOOPBACK, "lo", up=True)])

    def ear(self) -> tuple[Netns, str]:
        """See `drivers.Prepared`."""
        if self._parent.kind == "ipvlan":
            return self._host, self._parent.name
        return self._pod, self._plan.ifname

    def complete(self, plan: EndpointPlan) -> EndpointPlan:
        """Give the interface what `plan` has, and announce its addresses; what came of the plan.

        On ipvlan the MAC is the parent's, whatever is planned. When it fails nothing of it is left. Raises
        ServiceError `kernel_refused`.
        """
        try:
            made = self._complete(plan)
            if self._parent.host_access:
                grant(self._host, self._pod, plan, self._parent.services)
        except BaseException:
            self._inside.do([remove_link(0, plan.ifname)])
            remove_veth(self._host, plan.host_link)
            raise
        return made

    def close(self) -> None:
        """Let go of the kernel's socket. The interface stays. Safe to call twice."""
        self._inside.close()

    def _complete(self, plan: EndpointPlan) -> EndpointPlan:
        name = plan.ifname
        # It comes up once more: what it announces then, and its link-local address, are made of its MAC.
        setting = [change_link(self._index, name, up=False), change_link(self._index, name, mtu=plan.mtu)]
        if self._parent.kind == "macvlan":
            setting.append(change_link(self._index, name, mac=plan.mac))
        if any(address.version == 6 for address in plan.addresses):
            with self._pod.entered():
                prepare_ipv6(name)
            setting.append(generate_ipv6(self._index, name))
        addresses = [add_address(self._index, address) for address in plan.addresses]
        up = change_link(self._index, name, up=True)
        routes = route_messages(self._index, plan)
        done = self._inside.do([*setting, *addresses, up, *routes])
        with inside(self._pod) as links:
            made = links.find(name)
        mac = made.mac if made is not None and made.mac is not None else plan.mac
        return replace(plan, mac=mac, host_link="", host_mac="", routes=made_routes(plan, done))


def prepare_child(host: Netns, pod: Netns, plan: LinkPlan, parent: Parent) -> PreparedChild:
    """Make the interface of an endpoint in the pod, for the caller to complete and to close.

    When it fails nothing of it is left. Raises ServiceError: `interface_exists`, `network_not_ready` (the
    parent is away), `kernel_refused`.
    """
    with host.entered(), RoutingSocket() as outside, ExitStack() as undo:
        index = link_index(parent.name)
        if index is None:
            raise _without_parent(plan, parent)
        try:
            outside.do([make_child(parent.kind, parent.mode, End(plan.ifname, plan.mtu), pod.fd, index)])
        except Refused as refusal:
            if refusal.errno == errno.EEXIST:
                raise interface_exists(plan.ifname, pod="the pod") from refusal
            raise
        undo.callback(_remove_inside, pod, plan.ifname)
        prepared = PreparedChild(plan, parent, host, pod, undo)
        prepared.start()
        undo.pop_all()
        return prepared


def _remove_inside(pod: Netns, ifname: str) -> None:
    with pod.entered(), RoutingSocket() as kernel:
        kernel.do([remove_link(0, ifname)])


def _without_parent(plan: LinkPlan, parent: Parent) -> ServiceError:
    return ServiceError(
        Code.NETWORK_NOT_READY,
        f"interface {parent.name}, which carries network {plan.network}, is missing on this node: try again "
        "once it is there",
        network=plan.network,
    )
