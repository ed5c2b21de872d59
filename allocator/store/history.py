"""History: append-only, one row for every change of ownership, in the same transaction."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, insert, select

from allocator import tables as t
from schemas.history import HistoryList


def append(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows whose network_id and seq the caller gave out under the network's row lock."""
    if rows:
        connection.execute(insert(t.history), [dict(row) for row in rows])


def of_attachment(connection: Connection, attachment_id: UUID) -> list[RowMapping]:
    """What became of one attachment, in any network: events and details. There are only ever a few."""
    statement = select(t.history.c.event, t.history.c.details)
    return list(connection.execute(statement.where(t.history.c.attachment_id == attachment_id)).mappings())


def page(connection: Connection, network_id: int, query: HistoryList, *, after: int) -> list[RowMapping]:
    """One row more than the page, oldest first."""
    h = t.history.c
    conditions = [h.network_id == network_id, h.seq > after]
    for field in ("address", "owner", "node", "attachment_id"):
        value = getattr(query, field)
        if value is not None:
            conditions.append(h[field] == value)
    if query.since is not None:
        conditions.append(h.at >= query.since.replace(tzinfo=None))
    if query.until is not None:
        conditions.append(h.at < query.until.replace(tzinfo=None))
    statement = select(t.history).where(*conditions).order_by(h.seq).limit(query.limit + 1)
    return list(connection.execute(statement).mappings())
