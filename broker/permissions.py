"""What each user may do on the broker: the least, as RabbitMQ's patterns. Every pattern is anchored."""

from dataclasses import dataclass

from broker.topology import (
    DEAD,
    DEFAULT_EXCHANGE,
    EVENTS_EXCHANGE,
    HEARTBEATS,
    PARTITIONS,
    QUERIES_QUEUE,
    REQUESTS_EXCHANGE,
    allocator_queue,
    events_queue,
    exactly,
    node_queue,
    routing_patterns,
)
from schemas.requests import MAY_SEND, Role

ALLOCATOR = "allocator"
NOTHING = exactly(())
READS_EVENTS: frozenset[Role] = frozenset({"operator", "console"})
"""The roles whose users have a queue of events."""


@dataclass(frozen=True)
class Permissions:
    """One user's patterns. Nobody configures: services only use what provisioning declared.

    `sends` covers the routing keys that the user may publish to `moorage.requests`.
    """

    write: str
    read: str
    sends: str = NOTHING
    configure: str = NOTHING


def user_name(role: Role, name: str) -> str:
    """The RabbitMQ user of a node or client; `schemas.requests.sender` reads it back."""
    return f"{role}.{name}"


def permissions_of(role: Role, name: str) -> Permissions:
    """What the user of this node or client may do (DESIGN section 4).

    Answers need no permission: RabbitMQ's own reply queue belongs to the channel that consumes it.
    """
    sends = routing_patterns(MAY_SEND[role])
    if role == "node":
        return Permissions(write=exactly([REQUESTS_EXCHANGE]), read=exactly([node_queue(name)]), sends=sends)
    if role == "producer":
        return Permissions(write=exactly([REQUESTS_EXCHANGE]), read=NOTHING, sends=sends)
    return Permissions(
        write=exactly([REQUESTS_EXCHANGE, DEAD]),
        read=exactly([DEAD, events_queue(user_name(role, name))]),
        sends=sends,
    )


def permissions_of_allocator() -> Permissions:
    """The allocator consumes requests, and writes answers, nudges, dead letters and events."""
    partitions = [allocator_queue(p) for p in range(PARTITIONS)]
    return Permissions(
        write=exactly([DEFAULT_EXCHANGE, DEAD, EVENTS_EXCHANGE]),
        read=exactly([*partitions, HEARTBEATS, QUERIES_QUEUE]),
    )
