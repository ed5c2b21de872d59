"""Nodes: their heartbeat, what they ask for and what they report, and how one is declared off."""

import hashlib
from collections.abc import Iterable
from functools import reduce
from operator import xor
from typing import ClassVar, Literal, Self
from uuid import UUID
from zlib import crc32

from pydantic import Field, model_validator

from schemas.address import Reason, one_of_each
from schemas.errors import ErrorBody
from schemas.fields import Address, ContainerId, Ifname, IPAddress, Mac, NetworkName, NodeName, Owner, Time
from schemas.message import PAGE_LIMIT, Administrative, Done, Message, Page, Query, Request
from schemas.network import NetworkDefinition

NodeState = Literal["ready", "lost", "fenced"]
DesiredState = Literal["present", "absent"]
MOST_ATTACHMENTS = 1000
"""How many attachments of a node one sync compares. kubelet's own limit is far lower."""


class DesiredNetwork(Message):
    """What a node must make of one network. `definition` is None where the network must be gone."""

    network: NetworkName
    version: int
    state: DesiredState
    definition: NetworkDefinition | None = None


def desired_digest(versions: Iterable[tuple[str, int]], peers: str = "") -> str:
    """One short text for a set of (network, version): equal texts mean that nothing has to be fetched.

    `peers` is the digest of the nodes that networks with tunnels lead to; empty where there is none of those.
    """
    return _digest([*(f"{network}@{version}" for network, version in versions), *([peers] if peers else [])])


def peers_digest(peers: Iterable[IPAddress]) -> str:
    """One short text for a set of nodes' addresses, as the allocator's database makes it, too.

    Their number, and the XOR of the CRC-32 of each in its 16 bytes (IPv4 as ::ffff:a.b.c.d).
    """
    sums = [crc32(packed(peer)) for peer in peers]
    return f"{len(sums)}:{reduce(xor, sums, 0)}"


def packed(address: IPAddress) -> bytes:
    """An address of either family in 16 bytes (RFC 4291, section 2.5.5.2)."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def attachments_digest(attachment_ids: Iterable[UUID]) -> str:
    """One short text for a set of attachments: equal texts mean that node and allocator agree."""
    return _digest({str(attachment_id) for attachment_id in attachment_ids})


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:32]


class Heard(Message):
    """What a node was told last: in which of its epochs the database was, and when, by its own clock.

    A database that knows nothing of it was restored from a backup.
    """

    epoch: int
    at: Time


class Heartbeat(Message):
    """The answer of a heartbeat: the database's time and epoch, and digests of what the node must have.

    `digest` is of the networks, `attachments` of the attachments that the allocator has for the node; empty
    where the node must sync whatever it has. `fenced`: this session was declared off; the node ends every
    endpoint it has and goes on under a new session.
    """

    database_time: Time
    digest: str
    attachments: str | None = None
    fenced: bool = False
    epoch: int | None = None


class NodeHeartbeat(Request):
    """Say that the node is alive, and what it knows. `session` is new at every start of the worker.

    `heard` is of the last heartbeat that was answered with digests, in whatever session.
    """

    NAME: ClassVar[str] = "node.heartbeat"
    VERSION: ClassVar[int] = 3
    ANSWER: ClassVar[type[Message]] = Heartbeat

    node: NodeName
    session: UUID
    digest: str | None = None
    attachments: str | None = None
    heard: Heard | None = None


class NodeAttachment(Message):
    """An attachment as the node's journal has it."""

    attachment_id: UUID
    network: NetworkName
    owner: Owner
    container_id: ContainerId
    ifname: Ifname
    addresses: tuple[Address, ...] = Field(min_length=1, max_length=2)
    mac: Mac

    @model_validator(mode="after")
    def _families(self) -> Self:
        one_of_each(self.addresses)
        return self


class LeftoverAttachment(Message):
    """An attachment that the allocator has for a node that did not name it."""

    attachment_id: UUID
    network: NetworkName
    container_id: ContainerId
    ifname: Ifname


class DesiredPage(Page):
    """One page of what the node must have, by network name.

    `stale`: of the attachments that the request named, those that ended; their endpoints must go. `unknown`:
    those that neither the allocator nor its history knows: the node tells their details in its next sync.
    `leftover`: what the node does not have although the allocator thinks so; only told after a restore. The
    node releases each of these unless it has just begun with a new journal. `peers`: where the tunnels of
    all nodes end, this one's too; told with the first page where a network has tunnels, else None. `epoch`
    is the database's, unless this session of the node was fenced.
    """

    database_time: Time
    epoch: int | None = None
    networks: tuple[DesiredNetwork, ...]
    stale: tuple[UUID, ...] = ()
    unknown: tuple[UUID, ...] = ()
    leftover: tuple[LeftoverAttachment, ...] = ()
    peers: tuple[Address, ...] | None = None


class NodeSync(Request):
    """Ask what the node must have. Also makes the node known and ready.

    `attachments` are all that the node has (None: it does not ask about them); `details` tells more of those
    that the last answer called unknown. After a restored backup such are adopted, under allocate's own
    checks; at other times they are flagged, and their address, if free, is withheld. `address` is where
    tunnels to this node end (None: as before). `heard` is as in heartbeats.
    """

    NAME: ClassVar[str] = "node.sync"
    VERSION: ClassVar[int] = 4
    ANSWER: ClassVar[type[Message]] = DesiredPage

    node: NodeName
    session: UUID
    after: str | None = None
    limit: int = PAGE_LIMIT
    attachments: tuple[UUID, ...] | None = Field(default=None, max_length=MOST_ATTACHMENTS)
    details: tuple[NodeAttachment, ...] = Field(default=(), max_length=100)
    address: Address | None = None
    heard: Heard | None = None


class NodeReport(Request):
    """Say how it went with one version of one network on this node."""

    NAME: ClassVar[str] = "node.report"
    ANSWER: ClassVar[type[Message]] = Done

    node: NodeName
    session: UUID
    network: NetworkName
    version: int
    result: Literal["ready", "error", "removed"]
    error: ErrorBody | None = None

    @model_validator(mode="after")
    def _explained(self) -> Self:
        if (self.result == "error") != (self.error is not None):
            raise ValueError("an error is named exactly when the result is 'error'")
        return self


class NodeFenced(Message):
    """The answer of a fence. `fenced` is False where a newer session made it a no-op.

    `released` counts the addresses that nobody is attached to any more.
    """

    node: NodeName
    session: UUID
    fenced: bool
    released: int = 0


class NodeFence(Administrative):
    """Declare that a node is off: everything attached there is detached, and its owners may move.

    Nothing checks that it is off: its pods would go on with addresses that others get. `session` names the
    life of the node that is meant, as `node.list` shows it; a node that came back since is left alone.
    Errors: `node_unknown`.
    """

    NAME: ClassVar[str] = "node.fence"
    ANSWER: ClassVar[type[Message]] = NodeFenced

    node: NodeName
    session: UUID
    reason: str = Reason


class NodeRemove(Administrative):
    """Forget a node that will not come back.

    Errors: `node_unknown`, `node_in_use` (it is ready, or addresses are attached there: fence it first).
    """

    NAME: ClassVar[str] = "node.remove"
    ANSWER: ClassVar[type[Message]] = Done

    node: NodeName


class Nudge(Message):
    """Sent to a node's own queue: something changed, sync now. Its loss only delays.

    `network` is None where the news is about attachments.
    """

    network: NetworkName | None = None
    version: int = 0


class NodeView(Message):
    """A node as people see it."""

    node: NodeName
    state: NodeState
    session: UUID
    last_seen: Time
    ready: int = 0
    errors: int = 0
    attached: int = 0


class NodePage(Page):
    """One page of nodes, by name, and the database's time."""

    nodes: tuple[NodeView, ...]
    database_time: Time | None = None


class NodeList(Query):
    """All nodes that ever said something, by name."""

    NAME: ClassVar[str] = "node.list"
    ANSWER: ClassVar[type[Message]] = NodePage

    after: str | None = None
    limit: int = PAGE_LIMIT
