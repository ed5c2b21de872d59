"""Pools and their ranges: created, carved, counted."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    ScalarSelect,
    and_,
    func,
    insert,
    literal_column,
    or_,
    select,
    union_all,
    update,
)

from allocator import tables as t
from allocator.model import Pool, Range
from allocator.store.networks import read_pool
from schemas.fields import IPAddress
from schemas.pool import AddressRange, PoolSettings


def add(
    connection: Connection, network_id: int, name: str, policy: str, settings: PoolSettings, version: int
) -> int:
    """A new pool without ranges; its id."""
    values = settings_values(settings)
    result = connection.execute(
        insert(t.pools).values(network_id=network_id, name=name, policy=policy, version=version, **values)
    )
    assert result.inserted_primary_key is not None  # noqa: S101  autoincrement always gives one
    return int(result.inserted_primary_key[0])


def settings_values(settings: PoolSettings) -> dict[str, Any]:
    """The columns that hold a pool's settings."""
    return {
        "owners": list(settings.owners),
        "cooldown_s": settings.cooldown_s,
        "retain_s": settings.retain_s,
        "allow_mac": int(settings.allow_mac),
    }


def change(connection: Connection, pool_id: int, values: Mapping[str, Any]) -> None:
    """Write columns of a pool."""
    connection.execute(update(t.pools).where(t.pools.c.id == pool_id).values(**values))


def overdue(connection: Connection, limit: int) -> list[tuple[str, int]]:
    """Network name and id of pools with an address that waits for longer than the pool keeps it.

    Looks at the longest waiting row of each family and no other: as EXISTS, MariaDB would read all of them.
    """
    p, n = t.pools.c, t.networks.c
    latest: ColumnElement[Any] = literal_column("UTC_TIMESTAMP(6) - INTERVAL pools.retain_s SECOND")
    oldest = [_longest_waiting(family) < latest for family in (4, 6)]
    statement = (
        select(n.name, p.id)
        .join(t.networks, n.id == p.network_id)
        .where(p.retain_s.is_not(None), or_(*oldest))
    )
    return [(row.name, row.id) for row in connection.execute(statement.order_by(p.id).limit(limit))]


def _longest_waiting(family: int) -> ScalarSelect[Any]:
    a = t.allocations.c
    statement = (
        select(a.since)
        .with_hint(t.allocations, "FORCE INDEX (ix_allocations_pool)")
        .where(a.pool_id == t.pools.c.id, a.family == family, a.state == "waiting")
    )
    return statement.order_by(a.since).limit(1).scalar_subquery()


def ranges(connection: Connection, pool_id: int) -> list[Range]:
    """The ranges of one pool, by family and address."""
    statement = select(t.ranges).where(t.ranges.c.pool_id == pool_id)
    rows = connection.execute(statement.order_by(t.ranges.c.family, t.ranges.c.first)).mappings()
    return [_read(row) for row in rows]


def fresh_ranges(
    connection: Connection, pool_id: int, family: int, limit: int, after: IPAddress | None
) -> list[Range]:
    """Ranges of a pool that have never-used addresses, by address, those after `after`."""
    r = t.ranges.c
    statement = select(t.ranges).where(r.pool_id == pool_id, r.family == family, r.cursor.is_not(None))
    if after is not None:
        statement = statement.where(r.cursor > after)
    rows = connection.execute(statement.order_by(r.cursor).limit(limit)).mappings()
    return [_read(row) for row in rows]


def ranges_of(connection: Connection, network_id: int, addresses: Collection[IPAddress]) -> list[Range]:
    """The ranges that these addresses lie in; nothing for one that the network does not hand out."""
    if not addresses:
        return []
    r = t.ranges.c
    parts = [
        select(t.ranges)
        .where(r.network_id == network_id, r.first <= address)
        .order_by(r.first.desc())
        .limit(1)
        .subquery()
        for address in addresses
    ]
    rows = connection.execute(union_all(*(select(part) for part in parts))).mappings()
    return [_read(row) for row in rows]


def page(connection: Connection, network_id: int, after: str, limit: int) -> list[Pool]:
    """One more than the page of a network's pools, by name."""
    statement = select(t.pools).where(t.pools.c.network_id == network_id, t.pools.c.name > after)
    rows = connection.execute(statement.order_by(t.pools.c.name).limit(limit + 1)).mappings()
    return [read_pool(row) for row in rows]


def network_ranges(connection: Connection, network_id: int) -> list[Range]:
    """The ranges of all pools of a network, by family and address."""
    statement = select(t.ranges).where(t.ranges.c.network_id == network_id)
    rows = connection.execute(statement.order_by(t.ranges.c.family, t.ranges.c.first)).mappings()
    return [_read(row) for row in rows]


def ranges_within(connection: Connection, network_id: int, spans: Collection[AddressRange]) -> list[Range]:
    """The ranges of a network that have addresses of these spans, by family and address."""
    if not spans:
        return []
    r = t.ranges.c
    touching = or_(*(and_(r.first <= span.last, r.last >= span.first) for span in spans))
    statement = select(t.ranges).where(r.network_id == network_id, touching)
    return [_read(row) for row in connection.execute(statement.order_by(r.family, r.first)).mappings()]


def _read(row: RowMapping) -> Range:
    return Range(
        id=row["id"],
        pool_id=row["pool_id"],
        first=row["first"],
        last=row["last"],
        cursor=row["cursor"],
        used=row["used"],
    )


def _values(network_id: int, part: Range) -> dict[str, object]:
    return {
        "network_id": network_id,
        "pool_id": part.pool_id,
        "family": part.family,
        "first": part.first,
        "last": part.last,
        "cursor": part.cursor,
        "used": part.used,
    }


def add_ranges(connection: Connection, network_id: int, parts: Sequence[Range]) -> None:
    """New ranges without allocations in them."""
    connection.execute(insert(t.ranges), [_values(network_id, part) for part in parts])


def save_split(
    connection: Connection, network_id: int, before: Sequence[Range], after: Sequence[Range]
) -> None:
    """Write down what a carve made of `before`: changed rows, new rows, and the allocations in them.

    Costs a statement or two for each range that changed, and one visit of each row that goes with it.
    """
    known = {part.id: part for part in before}
    for part in after:
        old = known.get(part.id) if part.id is not None else None
        if old is not None and _same_place(old, part):
            continue
        range_id = part.id if old is not None else None
        if range_id is None:
            result = connection.execute(insert(t.ranges).values(**_values(network_id, part)))
            assert result.inserted_primary_key is not None  # noqa: S101
            range_id = int(result.inserted_primary_key[0])
        else:
            changed = _values(network_id, part)
            connection.execute(update(t.ranges).where(t.ranges.c.id == range_id).values(**changed))
        if old is None or old.pool_id != part.pool_id:
            _move_rows(connection, network_id, part, range_id)
        _recount(connection, network_id, part, range_id)


def _same_place(old: Range, part: Range) -> bool:
    return (old.pool_id, old.first, old.last, old.cursor) == (
        part.pool_id,
        part.first,
        part.last,
        part.cursor,
    )


def _move_rows(connection: Connection, network_id: int, part: Range, range_id: int) -> None:
    a = t.allocations.c
    connection.execute(
        update(t.allocations)
        .where(a.network_id == network_id, a.address.between(part.first, part.last))
        .values(range_id=range_id, pool_id=part.pool_id)
    )


def _recount(connection: Connection, network_id: int, part: Range, range_id: int) -> None:
    a = t.allocations.c
    in_use = (
        select(func.count())
        .select_from(t.allocations)
        .where(a.network_id == network_id, a.address.between(part.first, part.last), a.state != "free")
        .scalar_subquery()
    )
    connection.execute(update(t.ranges).where(t.ranges.c.id == range_id).values(used=in_use))


def give_back(connection: Connection, pool_id: int, default_id: int) -> None:
    """Turn all of a pool into a part of the default pool, and remove it."""
    for table in (t.allocations, t.ranges):
        connection.execute(update(table).where(table.c.pool_id == pool_id).values(pool_id=default_id))
    connection.execute(t.pools.delete().where(t.pools.c.id == pool_id))
