"""The routes of an endpoint: which are asked of the kernel, and which it made."""

from collections.abc import Sequence

from cni.wishes import FIRST_INTERFACE
from node_worker.netlink.batch import Message, add_route
from node_worker.plan import EndpointPlan, PlannedRoute

_LATER_METRIC = 2000  # above what the kernel gives by itself: 0, and 1024 for IPv6


def route_messages(index: int, plan: EndpointPlan) -> list[Message]:
    """A pod leaves by eth0, whichever of its interfaces came first (podman has no order)."""
    metric = None if plan.ifname == FIRST_INTERFACE else _LATER_METRIC + index
    return [add_route(index, route.destination, route.via, metric) for route in plan.routes]


def made_routes(plan: EndpointPlan, done: Sequence[bool]) -> tuple[PlannedRoute, ...]:
    """Those routes of `plan`, whose messages came last, that were made."""
    there = done[len(done) - len(plan.routes) :]
    return tuple(route for route, made in zip(plan.routes, there, strict=True) if made)
