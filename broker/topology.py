"""The names of every exchange, queue and routing key, and what each queue is declared with."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from zlib import crc32

from schemas.message import Query, Request
from schemas.requests import HEARTBEAT, QUERIES

PARTITIONS = 4
"""Fixed when the broker is provisioned: another number would give networks to other partitions."""

REQUESTS_EXCHANGE = "moorage.requests"
EVENTS_EXCHANGE = "moorage.events"
DEAD = "moorage.dead"
"""The exchange of the dead letters and the queue that holds them."""
HEARTBEATS = "moorage.heartbeats"
QUERIES_QUEUE = "moorage.queries"
DEFAULT_EXCHANGE = "amq.default"
"""What the default exchange is called in permissions (rabbitmq-website, access-control)."""
REPLY_QUEUE = "amq.rabbitmq.reply-to"
"""RabbitMQ's pseudo-queue for RPC (rabbitmq-website, direct-reply-to)."""

_ALLOCATOR = "moorage.allocator."
_DELIVERY_LIMIT = 20
_LOOKS = 2**31 - 1
"""How often a dead letter may be looked at: each look counts as a delivery. RabbitMQ 4 takes -1 for no limit,
but 3.10 takes it for a limit that the first look exceeds, and drops the letter.
"""
_TTL_MS = 15_000
_MAX_LENGTH = 10_000
_NODE_TTL_MS = 60_000
_NODE_MAX_LENGTH = 1_000
_EVENTS_TTL_MS = 600_000
_EVENTS_MAX_BYTES = 32 * 1024 * 1024

_ROUTING_KEY = re.compile(r"(query|[0-9]{1,4})\.([a-z_.]{1,64})")

Argument = str | int | bool


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: str


@dataclass(frozen=True)
class Binding:
    """What an exchange gives to a queue."""

    exchange: str
    key: str


@dataclass(frozen=True)
class Queue:
    """One queue, as it is declared."""

    name: str
    arguments: Mapping[str, Argument] = field(hash=False)
    bindings: tuple[Binding, ...] = ()
    durable: bool = True

    @property
    def quorum(self) -> bool:
        """Whether it is a replicated queue."""
        return self.arguments["x-queue-type"] == "quorum"


def partition(key: str, partitions: int = PARTITIONS) -> int:
    """The partition that keeps the requests of `key` (a network's name, or a node's) in order."""
    return crc32(key.encode()) % partitions


def routing_key(request: Request) -> str:
    """Where a request is published to."""
    if request.NAME == HEARTBEAT:
        return HEARTBEAT
    if isinstance(request, Query):
        return f"query.{request.NAME}"
    return f"{partition(request.partition_key)}.{request.NAME}"


def queue_of(key: str) -> str:
    """The queue that messages with this routing key, of some request, belong into."""
    if key == HEARTBEAT:
        return HEARTBEATS
    first = key.partition(".")[0]
    return QUERIES_QUEUE if first == "query" else f"{_ALLOCATOR}{first}"


@lru_cache(maxsize=1024)
def request_name(key: str | None) -> str | None:
    """The request that a routing key names; None for a key that no request is published to."""
    if key == HEARTBEAT:
        return key
    match = _ROUTING_KEY.fullmatch(key or "")
    if match is None or match[2] == HEARTBEAT:
        return None
    return match[2] if (match[1] == "query") == (match[2] in QUERIES) else None


def routing_patterns(names: Iterable[str], partitions: int = PARTITIONS) -> str:
    """One anchored pattern that covers the routing keys of exactly these requests; `^$` for none."""
    wanted = set(names)
    alternatives = []
    if changes := sorted(wanted - QUERIES - {HEARTBEAT}):
        numbers = "|".join(str(p) for p in range(partitions))
        alternatives.append(rf"({numbers})\.({_any_of(changes)})")
    if queries := sorted(wanted & QUERIES):
        alternatives.append(rf"query\.({_any_of(queries)})")
    if HEARTBEAT in wanted:
        alternatives.append(re.escape(HEARTBEAT))
    return f"^({'|'.join(alternatives)})$" if alternatives else "^$"


def exactly(names: Iterable[str]) -> str:
    """One anchored pattern that covers exactly these names; `^$` for none."""
    listed = _any_of(sorted(names))
    return f"^({listed})$" if listed else "^$"


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name).replace(r"\-", "-") for name in names)


def allocator_queue(p: int) -> str:
    """The queue of one partition."""
    return f"{_ALLOCATOR}{p}"


def node_queue(node: str) -> str:
    """The queue of a node's nudges."""
    return f"moorage.node.{node}"


def events_queue(subscriber: str) -> str:
    """The queue of one subscriber to events."""
    return f"moorage.events.{subscriber}"


def events_key(network: str) -> str:
    """Where the events of one network are published to."""
    return f"events.{network}"


EXCHANGES = (
    Exchange(REQUESTS_EXCHANGE, "topic"),
    Exchange(EVENTS_EXCHANGE, "topic"),
    Exchange(DEAD, "fanout"),
)


def _queue(name: str, *bindings: Binding, **arguments: Argument) -> Queue:
    named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    return Queue(name, MappingProxyType(named), bindings)


def shared_queues(partitions: int = PARTITIONS) -> tuple[Queue, ...]:
    """The queues that all processes share, dead letters first, because others name them."""
    dead = _queue(DEAD, Binding(DEAD, ""), queue_type="quorum", delivery_limit=_LOOKS)
    changes = [
        _queue(
            allocator_queue(p),
            Binding(REQUESTS_EXCHANGE, f"{p}.#"),
            queue_type="quorum",
            single_active_consumer=True,
            delivery_limit=_DELIVERY_LIMIT,
            # The at-least-once strategy asks for reject-publish (rabbitmq-website, quorum-queues).
            dead_letter_exchange=DEAD,
            dead_letter_strategy="at-least-once",
            overflow="reject-publish",
        )
        for p in range(partitions)
    ]
    passing = [
        _queue(
            name,
            Binding(REQUESTS_EXCHANGE, key),
            queue_type="quorum",
            delivery_limit=_DELIVERY_LIMIT,
            message_ttl=_TTL_MS,
            max_length=_MAX_LENGTH,
            overflow="drop-head",
        )
        for name, key in ((HEARTBEATS, HEARTBEAT), (QUERIES_QUEUE, "query.#"))
    ]
    return (dead, *changes, *passing)


def queue_of_node(node: str) -> Queue:
    """A node's own queue: what is lost there only delays."""
    return _queue(
        node_queue(node),
        queue_type="classic",
        message_ttl=_NODE_TTL_MS,
        max_length=_NODE_MAX_LENGTH,
        overflow="drop-head",
    )


def queue_of_subscriber(subscriber: str) -> Queue:
    """The queue in which one subscriber finds the events of all networks.

    It keeps what a reader misses while it is restarted, and no more: nobody may ever read it, and the
    broker must not fill up. Who was away for longer reads `history.list`.
    """
    return _queue(
        events_queue(subscriber),
        Binding(EVENTS_EXCHANGE, events_key("#")),
        queue_type="classic",
        message_ttl=_EVENTS_TTL_MS,
        max_length_bytes=_EVENTS_MAX_BYTES,
        overflow="drop-head",
    )
