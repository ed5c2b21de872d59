"""Allocations: the rows of addresses that were ever used, and the pick of a free one."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update

from allocator import tables as t
from allocator.model import Allocation, Range, following
from allocator.policy import gap_after
from schemas.address import AddressList
from schemas.fields import IPAddress

_GAP_PAGE = 256


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


def page(connection: Connection, network_id: int, query: AddressList) -> list[RowMapping]:
    """One row more than the page, in address order, with the name and policy of each row's pool."""
    conditions = [t.allocations.c.network_id == network_id]
    if query.after is not None:
        conditions.append(t.allocations.c.address > ip_address(query.after))
    if query.pool is not None:
        conditions.append(t.pools.c.name == query.pool)
    for field in ("owner", "node", "state"):
        value = getattr(query, field)
        if value is not None:
            conditions.append(t.allocations.c[field] == value)
    statement = _with_pool_name().where(*conditions).order_by(t.allocations.c.address)
    return list(connection.execute(statement.limit(query.limit + 1)).mappings())


def at(connection: Connection, network_id: int, address: IPAddress) -> RowMapping | None:
    """The row of one address with the name and policy of its pool; None if it was never used."""
    statement = _with_pool_name().where(
        t.allocations.c.network_id == network_id, t.allocations.c.address == address
    )
    return connection.execute(statement).mappings().one_or_none()


def _with_pool_name() -> Select[Any]:
    joined = t.allocations.join(t.ranges, t.allocations.c.range_id == t.ranges.c.id).join(
        t.pools, t.ranges.c.pool_id == t.pools.c.id
    )
    return select(t.allocations, t.pools.c.name.label("pool"), t.pools.c.policy).select_from(joined)


def was_released(connection: Connection, attachment_id: UUID) -> bool:
    """Whether history knows a release of this attachment."""
    statement = select(t.history.c.seq).where(
        t.history.c.attachment_id == attachment_id,
        t.history.c.event.in_(("address.waiting", "address.freed", "address.taken_over")),
    )
    return connection.execute(statement.limit(1)).first() is not None


def replaced_by(connection: Connection, attachment_id: UUID) -> tuple[UUID, ...]:
    """The attachments that this one took its addresses over from, as its history says."""
    statement = select(t.history.c.details).where(
        t.history.c.attachment_id == attachment_id, t.history.c.event == "address.attached"
    )
    details = connection.execute(statement.limit(1)).scalar()
    return tuple(UUID(replaced) for replaced in (details or {}).get("replaces", ()))


def longest_free(
    connection: Connection, pool_id: int, family: int, before: datetime | None
) -> Allocation | None:
    """The pool's row that is free the longest, and since `before` at the latest (None: whenever).

    One index dive for each range of the pool, however many rows these have.
    """
    conditions = [t.allocations.c.range_id == t.ranges.c.id, t.allocations.c.state == "free"]
    if before is not None:
        conditions.append(t.allocations.c.since <= before)
    oldest = select(func.min(t.allocations.c.since)).where(*conditions).correlate(t.ranges).scalar_subquery()
    statement = (
        select(t.ranges.c.id, oldest.label("oldest"))
        .where(t.ranges.c.pool_id == pool_id, t.ranges.c.family == family)
        .subquery()
    )
    best = connection.execute(
        select(statement.c.id, statement.c.oldest)
        .where(statement.c.oldest.is_not(None))
        .order_by(statement.c.oldest)
        .limit(1)
    ).first()
    if best is None:
        return None
    rows = _read_all(
        connection,
        with_pool()
        .where(
            t.allocations.c.range_id == best.id,
            t.allocations.c.state == "free",
            t.allocations.c.since == best.oldest,
        )
        .order_by(t.allocations.c.id)
        .limit(1),
    )
    return rows[0] if rows else None


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
