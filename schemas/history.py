"""History: one row for every change of ownership, the query that reads it, and the events made of it."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from schemas.fields import Address, ContainerId, HistoryName, Ifname, Mac, NodeName, Owner, PoolName, Time
from schemas.message import PAGE_LIMIT, Message, Page, Query

EventName = Literal[
    "network.created",
    "network.active",
    "network.updated",
    "network.failed",
    "network.deleting",
    "network.deleted",
    "pool.created",
    "pool.resized",
    "pool.updated",
    "pool.deleted",
    "address.reserved",
    "address.attached",
    "address.adopted",
    "address.waiting",
    "address.freed",
    "address.taken_over",
    "address.rebound",
    "address.quarantined",
    "node.ready",
    "node.lost",
    "node.fenced",
    "node.removed",
    "dead.replayed",
    "dead.discarded",
    "dead.imported",
    "database.rolled_back",
]


LaterEvent = Annotated[str, StringConstraints(pattern=r"^[a-z]+\.[a-z_]+$", max_length=32)]
"""What a newer allocator tells of and this program has no word for: it is shown as it is."""


class HistoryRow(Message):
    """What happened, to which address, for whom, where and who asked. `seq` grows per network.

    Readers let pass an `event` that they do not know. `user_id` is the RabbitMQ user that asked; `actor`
    whom that user claims to have asked for.
    """

    network: HistoryName
    seq: int
    at: Time
    event: EventName | LaterEvent
    pool: PoolName | None = None
    address: Address | None = None
    owner: Owner | None = None
    mac: Mac | None = None
    ifname: Ifname | None = None
    node: NodeName | None = None
    container_id: ContainerId | None = None
    attachment_id: UUID | None = None
    user_id: str | None = None
    actor: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class Events(Message):
    """What `moorage.events` carries: consecutive history rows of one network, oldest first.

    Delivered at least once and in order of `seq` per network: a reader drops rows it has seen. `after` is
    the `seq` that precedes the first row, as numbers may jump: a reader that has not seen it was away for
    longer than its queue keeps events, and finds what it missed with `history.list`.
    """

    NAME: ClassVar[str] = "events"
    VERSION: ClassVar[int] = 1

    network: HistoryName
    after: int | None = None
    rows: tuple[HistoryRow, ...]


class HistoryPage(Page):
    """One page of history, oldest first, or newest first where that was asked for."""

    rows: tuple[HistoryRow, ...]


class HistoryList(Query):
    """The history of one network, narrowed by the filters. Errors: `network_unknown`.

    `network` `_system` holds what happened to nodes and to dead letters.
    """

    NAME: ClassVar[str] = "history.list"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = HistoryPage

    network: HistoryName
    address: Address | None = None
    owner: Owner | None = None
    node: NodeName | None = None
    attachment_id: UUID | None = None
    container_id: ContainerId | None = None
    since: Time | None = None
    until: Time | None = None
    newest_first: bool = False
    after: str | None = None
    limit: int = PAGE_LIMIT
