"""Nodes: their heartbeat, what they ask for and what they report."""

import hashlib
from collections.abc import Iterable
from typing import ClassVar, Literal, Self
from uuid import UUID

from pydantic import model_validator

from schemas.errors import ErrorBody
from schemas.fields import NetworkName, NodeName, Time
from schemas.message import PAGE_LIMIT, Done, Message, Page, Query, Request
from schemas.network import NetworkDefinition

NodeState = Literal["ready", "lost"]
DesiredState = Literal["present", "absent"]


class DesiredNetwork(Message):
    """What a node must make of one network. `definition` is None where the network must be gone."""

    network: NetworkName
    version: int
    state: DesiredState
    definition: NetworkDefinition | None = None


def desired_digest(versions: Iterable[tuple[str, int]]) -> str:
    """One short text for a set of (network, version): equal texts mean that nothing has to be fetched."""
    lines = "\n".join(f"{network}@{version}" for network, version in sorted(versions))
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


class Heartbeat(Message):
    """The answer of a heartbeat: the database's time, and the digest of what every node must have."""

    database_time: Time
    digest: str


class NodeHeartbeat(Request):
    """Say that the node is alive, and what it knows. `session` is new at every start of the worker."""

    NAME: ClassVar[str] = "node.heartbeat"
    ANSWER: ClassVar[type[Message]] = Heartbeat

    node: NodeName
    session: UUID
    digest: str | None = None


class DesiredPage(Page):
    """One page of what the node must have, by network name."""

    database_time: Time
    networks: tuple[DesiredNetwork, ...]


class NodeSync(Request):
    """Ask what the node must have. Also makes the node known and ready."""

    NAME: ClassVar[str] = "node.sync"
    ANSWER: ClassVar[type[Message]] = DesiredPage

    node: NodeName
    session: UUID
    after: str | None = None
    limit: int = PAGE_LIMIT


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


class Nudge(Message):
    """Sent to a node's own queue: something changed, sync now. Its loss only delays."""

    network: NetworkName
    version: int


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
    """One page of nodes, by name."""

    nodes: tuple[NodeView, ...]


class NodeList(Query):
    """All nodes that ever said something, by name."""

    NAME: ClassVar[str] = "node.list"
    ANSWER: ClassVar[type[Message]] = NodePage

    after: str | None = None
    limit: int = PAGE_LIMIT
