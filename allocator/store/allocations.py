"""Allocations: the rows of addresses that were ever used, and the pick of a free one."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, insert, or_, select, update

from allocator import tables as t
from allocator.model import Allocation, Range, following
from allocator.policy import gap_after
from schemas.address import AddressList
from schemas.fields import IPAddress
from schemas.pool import AddressRange

_GAP_PAGE = 256
_SPANS_AT_ONCE = 200

HELD = ("attached", "waiting", "quarantined")
"""The states in which somebody holds an address: all but free."""


def with_pool() -> Select[Any]:
    """All columns of an allocation and the pool its range is in now."""
    joined = t.allocations.join(t.ranges, t.allocations.c.range_id == t.ranges.c.id)
    return select(t.allocations, t.ranges.c.pool_id).select_from(joined)


def read_allocation(row: RowMapping) -> Allocation:
    """The allocation of a row of `with_pool`."""
    return Allocation(**{field: row[field] for field in Allocation.__slots__})


def _read_all(connection: Connection, statement: Select[Any]) -> list[Allocation]:
    return [read_allocation(row) for row in connection.execute(statement).mappings()]


def of_attachment(connection: Connection, attachment_id: UUID) -> list[Allocation]:
    """The rows that carry this attachment_id now."""
    statement = with_pool().where(t.allocations.c.attachment_id == attachment_id)
    return _read_all(connection, statement.order_by(t.allocations.c.family))


def of_pinned(connection: Connection, network_id: int, owner: str, ifname: str) -> list[Allocation]:
    """The rows pinned to one interface of one owner."""
    statement = with_pool().where(
        t.allocations.c.network_id == network_id,
        t.allocations.c.pinned_owner == owner,
        t.allocations.c.ifname == ifname,
    )
    return _read_all(connection, statement.order_by(t.allocations.c.family))


def of_container(
    connection: Connection, network_id: int, node: str, container_id: str, ifname: str
) -> list[Allocation]:
    """The attached rows of one interface of one container on one node."""
    statement = with_pool().where(
        t.allocations.c.node == node,
        t.allocations.c.container_id == container_id,
        t.allocations.c.ifname == ifname,
        t.allocations.c.network_id == network_id,
        t.allocations.c.state == "attached",
    )
    return _read_all(connection, statement.order_by(t.allocations.c.family))


def page(
    connection: Connection,
    network_id: int,
    query: AddressList,
    *,
    after: IPAddress | None,
    within: Sequence[AddressRange] | None,
) -> list[Allocation]:
    """One row more than the page, in address order; `within` narrows it to these spans (None: all)."""
    a = t.allocations.c
    conditions = [a.network_id == network_id]
    if after is not None:
        conditions.append(a.address > after)
    for field in ("owner", "node", "state"):
        value = getattr(query, field)
        if value is not None:
            conditions.append(a[field] == value)
    found: list[Allocation] = []
    for spans in _chunks(within):
        picked = select(a.id, a.address).where(*conditions, *spans).order_by(a.address)
        picked_rows = picked.limit(query.limit + 1 - len(found)).subquery()
        # Limited before the join: joined at once, the server reads and sorts the whole network.
        statement = with_pool().join(picked_rows, picked_rows.c.id == a.id)
        found += _read_all(connection, statement.order_by(a.address))
        if len(found) > query.limit:
            break
    return found


def _chunks(within: Sequence[AddressRange] | None) -> Iterator[list[ColumnElement[bool]]]:
    """Conditions that the index on the address serves, a bounded number of spans at a time, in order."""
    if within is None:
        yield []
        return
    for start in range(0, len(within), _SPANS_AT_ONCE):
        spans = within[start : start + _SPANS_AT_ONCE]
        yield [or_(*(t.allocations.c.address.between(span.first, span.last) for span in spans))]


def at(connection: Connection, network_id: int, address: IPAddress) -> Allocation | None:
    """The row of one address; None if it was never used."""
    statement = with_pool().where(
        t.allocations.c.network_id == network_id, t.allocations.c.address == address
    )
    rows = _read_all(connection, statement)
    return rows[0] if rows else None


def some_held(connection: Connection, pool_id: int, family: int, limit: int) -> list[Allocation]:
    """Up to `limit` addresses of a pool that somebody holds, found without reading those that are free."""
    statement = with_pool().where(
        t.ranges.c.pool_id == pool_id, t.ranges.c.family == family, t.allocations.c.state.in_(HELD)
    )
    return _read_all(connection, statement.limit(limit))


def longest_free(
    connection: Connection, pool_id: int, family: int, before: datetime | None
) -> Allocation | None:
    """The pool's row that is free the longest, and since `before` at the latest (None: whenever).

    One index dive for each range of the pool, however many rows these have.
    """
    conditions = [t.allocations.c.range_id == t.ranges.c.id, t.allocations.c.state == "free"]
    if before is not None:
        conditions.append(t.allocations.c.since <= before)
    # ORDER BY and LIMIT, not MIN: for a correlated MIN the server reads all the free rows of a range.
    oldest = (
        select(t.allocations.c.since)
        .where(*conditions)
        .order_by(t.allocations.c.since)
        .limit(1)
        .correlate(t.ranges)
        .scalar_subquery()
        .label("oldest")
    )
    best = connection.execute(
        select(t.ranges.c.id, oldest)
        .where(t.ranges.c.pool_id == pool_id, t.ranges.c.family == family)
        .order_by(oldest.is_(None), oldest)
        .limit(1)
    ).first()
    if best is None or best.oldest is None:
        return None
    statement = with_pool().where(
        t.allocations.c.range_id == best.id,
        t.allocations.c.state == "free",
        t.allocations.c.since == best.oldest,
    )
    return _read_all(connection, statement.order_by(t.allocations.c.id).limit(1))[0]


def cooled_down(now: datetime, cooldown_s: int) -> datetime:
    """The latest moment at which an address may have become free to be handed out now."""
    return now - timedelta(seconds=cooldown_s)


def never_used(connection: Connection, pool_id: int, family: int) -> tuple[Range, IPAddress] | None:
    """The first address at or above a cursor of the pool that has no row yet, and its range."""
    statement = select(t.ranges).where(
        t.ranges.c.pool_id == pool_id, t.ranges.c.family == family, t.ranges.c.cursor.is_not(None)
    )
    for row in connection.execute(statement.order_by(t.ranges.c.first)).mappings():
        part = Range(
            id=row["id"],
            pool_id=pool_id,
            first=row["first"],
            last=row["last"],
            cursor=row["cursor"],
            used=row["used"],
        )
        free = _gap(connection, row["network_id"], part)
        if free is not None:
            return part, free
    return None


def _gap(connection: Connection, network_id: int, part: Range) -> IPAddress | None:
    cursor = part.cursor
    while cursor is not None:
        statement = (
            select(t.allocations.c.address)
            .where(
                t.allocations.c.network_id == network_id,
                t.allocations.c.address.between(cursor, part.last),
            )
            .order_by(t.allocations.c.address)
            .limit(_GAP_PAGE)
        )
        taken = list(connection.execute(statement).scalars())
        free = gap_after(cursor, part.last, taken)
        if free is None or len(taken) < _GAP_PAGE or free != following(taken[-1], part.last):
            return free
        cursor = free
    return None


def attach_row(connection: Connection, row: Allocation, values: Mapping[str, Any]) -> None:
    """Attach an existing row; a free one counts as used from now on."""
    connection.execute(update(t.allocations).where(t.allocations.c.id == row.id).values(**values))
    if row.state == "free":
        _count(connection, row.range_id, +1)


def attach_new(connection: Connection, part: Range, address: IPAddress, values: Mapping[str, Any]) -> None:
    """Attach an address that was never used, and move the range's cursor behind it."""
    connection.execute(
        insert(t.allocations).values(range_id=part.id, family=part.family, address=address, **values)
    )
    connection.execute(
        update(t.ranges)
        .where(t.ranges.c.id == part.id)
        .values(cursor=following(address, part.last), used=t.ranges.c.used + 1)
    )


_NOBODY: Mapping[str, Any] = {"node": None, "container_id": None, "attachment_id": None}


def detach(connection: Connection, row: Allocation, now: datetime) -> None:
    """Take the attachment off a row: a pinned one waits for its owner, another becomes free.

    A free row keeps its last owner, for people to see, and no MAC, so that the MAC is free as well.
    """
    if row.pinned_owner is not None:
        values = {"state": "waiting", "since": now, **_NOBODY}
    else:
        values = {"state": "free", "since": now, "mac": None, **_NOBODY}
        _count(connection, row.range_id, -1)
    connection.execute(update(t.allocations).where(t.allocations.c.id == row.id).values(**values))


def _count(connection: Connection, range_id: int, change: int) -> None:
    connection.execute(
        update(t.ranges).where(t.ranges.c.id == range_id).values(used=t.ranges.c.used + change)
    )


def macs_in_use(connection: Connection, network_id: int, family: int, macs: Sequence[str]) -> set[str]:
    """Those of `macs` that a row of this family already carries."""
    statement = select(t.allocations.c.mac).where(
        t.allocations.c.network_id == network_id,
        t.allocations.c.family == family,
        t.allocations.c.mac.in_(macs),
    )
    return {mac for mac in connection.execute(statement).scalars() if mac is not None}
