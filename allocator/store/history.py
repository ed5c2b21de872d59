"""History: append-only, one row for every change of ownership, in the same transaction."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, RowMapping, select, text

from allocator import tables as t
from allocator.store.reads import Found, Reads
from allocator.store.writes import Writes
from schemas.fields import SYSTEM_NETWORK, IPAddress
from schemas.history import HistoryList

_OF_ATTACHMENTS = (
    "SELECT JSON_ARRAY(HEX(attachment_id), event, details) FROM history WHERE attachment_id IN %s"
)
_FILTERS = ("address", "owner", "node", "attachment_id", "container_id")


def append(writes: Writes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows whose network_id and seq the caller gave out under the network's row lock."""
    if rows:
        writes.add_rows(_APPEND, [_values(row) for row in rows])


# Rows enough to fill a network of any size never leave the server.
_RELEASED = text(
    "INSERT INTO history (network_id, seq, at, event, pool, address, owner, mac, ifname, node, "
    "container_id, attachment_id, user_id, actor, details) "
    "SELECT a.network_id, :before + ROW_NUMBER() OVER (ORDER BY a.id), :now, 'address.freed', p.name, "
    "a.address, a.owner, a.mac, a.ifname, a.node, a.container_id, a.attachment_id, :user_id, :actor, "
    ":details FROM allocations a JOIN pools p ON p.id = a.pool_id "
    "WHERE a.network_id = :network_id AND a.state <> 'free'"
)


def append_released(
    connection: Connection,
    network_id: int,
    before: int,
    *,
    now: datetime,
    user_id: str,
    actor: str | None,
    details: Mapping[str, Any],
) -> None:
    """One row for each address of the network that somebody holds, numbered from `before` + 1 on."""
    connection.execute(
        _RELEASED,
        {
            "network_id": network_id,
            "before": before,
            "now": now,
            "user_id": user_id,
            "actor": actor,
            "details": json.dumps(details),
        },
    )


_COLUMNS = tuple(t.history.columns.keys())
_APPEND = f"INSERT INTO history ({', '.join(f'`{name}`' for name in _COLUMNS)})"


def _values(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of one row in the order of the columns, as the database has them."""
    address, attachment_id, details = row["address"], row["attachment_id"], row["details"]
    return (
        row["network_id"],
        row["seq"],
        row["at"],
        row["event"],
        row["pool"],
        None if address is None else t.stored(address),
        row["owner"],
        row["mac"],
        row["ifname"],
        row["node"],
        row["container_id"],
        None if attachment_id is None else attachment_id.bytes,
        row["user_id"],
        row["actor"],
        json.dumps(details) if details else "{}",
    )


class Happened(NamedTuple):
    """One event of an attachment."""

    attachment_id: UUID
    event: str
    details: Mapping[str, Any]


def of_attachments(reads: Reads, attachment_ids: Collection[UUID]) -> Found[Happened]:
    """What became of these attachments, at least one, in any network. There are only ever a few."""
    return reads.add(_OF_ATTACHMENTS, [[wanted.bytes for wanted in attachment_ids]], _happened)


def _happened(attachment_id: str, event: str, details: Mapping[str, Any] | str) -> Happened:
    # JSON is a type of its own in MySQL, and text in MariaDB.
    return Happened(UUID(attachment_id), event, json.loads(details) if isinstance(details, str) else details)


def page(
    connection: Connection, network_id: int, query: HistoryList, *, after: int | None
) -> list[RowMapping]:
    """One row more than the page, oldest first or newest first."""
    h = t.history.c
    conditions = [h.network_id == network_id]
    for field in _FILTERS:
        value = getattr(query, field)
        if value is not None:
            conditions.append(h[field] == value)
    if query.since is not None:
        conditions.append(h.at >= query.since.replace(tzinfo=None))
    if query.until is not None:
        conditions.append(h.at < query.until.replace(tzinfo=None))
    if after is not None:
        conditions.append(h.seq < after if query.newest_first else h.seq > after)
    order = h.seq.desc() if query.newest_first else h.seq
    statement = select(t.history).where(*conditions).order_by(order).limit(query.limit + 1)
    return list(connection.execute(statement).mappings())


def latest_of_address(
    connection: Connection, network_id: int, address: IPAddress, until: datetime
) -> RowMapping | None:
    """The last thing that happened to an address up to a moment."""
    h = t.history.c
    statement = (
        select(t.history)
        .where(h.network_id == network_id, h.address == address, h.at <= until)
        .order_by(h.seq.desc())
        .limit(1)
    )
    return connection.execute(statement).mappings().one_or_none()


def witness(connection: Connection, since: int) -> str | None:
    """The node that showed, at this seq of the reserved network or later, that the database went back."""
    h, n = t.history.c, t.networks.c
    statement = (
        select(h.node)
        .select_from(t.history.join(t.networks, n.id == h.network_id))
        .where(n.name == SYSTEM_NETWORK, h.seq >= since, h.event == "database.rolled_back")
        .limit(1)
    )
    return connection.execute(statement).scalar()
