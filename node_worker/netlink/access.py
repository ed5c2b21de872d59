"""The way between a pod beside the node's interface and that node itself: a veth pair and host routes.

A macvlan or ipvlan interface and its parent never hear one another, so without this neither kubelet's probes
nor the cluster's service addresses work. The pair carries no subnet: each side has a route to the other's
addresses alone, and knows the other's MAC without asking.
"""

import hashlib
from collections.abc import Collection

from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import (
    Session,
    inside,
    switch_off_router_advertisements,
    write_sysctl,
)
from node_worker.plan import EndpointPlan, IPInterface
from schemas.fields import IPAddress, IPNetwork

_MOST = 16
"""Of one family: a node has a handful of addresses, and a pod is not to carry more routes than that."""


def grant(host: Netns, pod: Netns, plan: EndpointPlan, services: Collection[IPNetwork]) -> None:
    """Make the pair and the routes of an endpoint that is complete otherwise.

    The pod reaches the node's addresses, and `services` through the node. Raises ServiceError
    `kernel_refused`; the pair is the caller's to remove then.
    """
    inner, mac = inner_link(plan.host_link), _inner_mac(plan.host_link)
    with inside(host) as links:
        peer = {"ifname": inner, "net_ns_fd": pod.fd, "address": mac, "mtu": plan.mtu}
        links.add(plan.host_link, "veth", address=plan.host_mac, mtu=plan.mtu, peer=peer)
        switch_off_router_advertisements(plan.host_link)
        # The node takes nothing from the pod but what comes from the pod's own addresses (ip-sysctl).
        write_sysctl(f"net/ipv4/conf/{plan.host_link}/rp_filter", 1)
        links.change(plan.host_link, state="up")
        node = links.own_addresses()
        _to_pod(links, plan.host_link, plan.addresses)
    with inside(pod) as links:
        switch_off_router_advertisements(inner)
        links.change(inner, state="up")
        _to_node(links, inner, plan, node, services)


def regrant(host: Netns, host_link: str, addresses: Collection[IPInterface]) -> None:
    """Put the node's routes to a pod back, if its pair is there. Safe to call twice."""
    with inside(host) as links:
        _to_pod(links, host_link, addresses)


def inner_link(host_link: str) -> str:
    """The pod's end of the pair."""
    return f"mh{host_link.removeprefix('mo')}"


def _inner_mac(host_link: str) -> str:
    digits = hashlib.sha256(f"pod end of {host_link}".encode()).hexdigest()
    return ":".join(["0e", *(digits[at : at + 2] for at in range(0, 10, 2))])


def _to_pod(links: Session, host_link: str, addresses: Collection[IPInterface]) -> None:
    found = links.find(host_link)
    if found is None:
        return
    for address in addresses:
        links.know(found.index, address.ip, _inner_mac(host_link))
        links.lead(found.index, address.ip)


def _to_node(
    links: Session,
    inner: str,
    plan: EndpointPlan,
    node: Collection[IPAddress],
    services: Collection[IPNetwork],
) -> None:
    found = links.find(inner)
    if found is None:
        return
    for own in (address.ip for address in plan.addresses):
        reached = [address for address in node if address.version == own.version][:_MOST]
        for address in reached:
            links.know(found.index, address, plan.host_mac)
            links.lead(found.index, address, source=own)
        for service in services:
            if reached and service.version == own.version:
                links.lead_through(found.index, service, reached[0], source=own)
