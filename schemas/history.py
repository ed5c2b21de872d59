"""History: one row for every change of ownership, and the query that reads it."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import Address, ContainerId, Ifname, Mac, NetworkName, NodeName, Owner, PoolName, Time
from schemas.message import PAGE_LIMIT, Message, Page, Query

EventName = Literal[
    "network.created",
    "network.active",
    "network.failed",
    "network.deleted",
    "pool.created",
    "address.attached",
    "address.waiting",
    "address.freed",
    "address.taken_over",
]


class HistoryRow(Message):
    """What happened, to which address, for whom, where and who asked. `seq` grows per network."""

    network: NetworkName
    seq: int
    at: Time
    event: EventName
    pool: PoolName | None = None
    address: Address | None = None
    owner: Owner | None = None
    mac: Mac | None = None
    ifname: Ifname | None = None
    node: NodeName | None = None
    container_id: ContainerId | None = None
    attachment_id: UUID | None = None
    user_id: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class HistoryPage(Page):
    """One page of history, oldest first."""

    rows: tuple[HistoryRow, ...]


class HistoryList(Query):
    """The history of one network, narrowed by the filters. Errors: `network_unknown`."""

    NAME: ClassVar[str] = "history.list"
    ANSWER: ClassVar[type[Message]] = HistoryPage

    network: NetworkName
    address: Address | None = None
    owner: Owner | None = None
    node: NodeName | None = None
    attachment_id: UUID | None = None
    since: Time | None = None
    until: Time | None = None
    after: str | None = None
    limit: int = PAGE_LIMIT
