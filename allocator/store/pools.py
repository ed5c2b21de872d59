"""Pools and their ranges: created, carved, counted."""

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from allocator import tables as t
from allocator.model import Allocation, Pool, Range
from allocator.store.allocations import read_allocation, with_pool
from allocator.store.networks import read_pool
from schemas.pool import AddressRange


def add(
    connection: Connection, network_id: int, name: str, policy: str, owners: Sequence[str], cooldown_s: int
) -> int:
    """A new pool without ranges; its id."""
    result = connection.execute(
        insert(t.pools).values(
            network_id=network_id, name=name, policy=policy, owners=list(owners), cooldown_s=cooldown_s
        )
    )
    assert result.inserted_primary_key is not None  # noqa: S101  autoincrement always gives one
    return int(result.inserted_primary_key[0])


def ranges(connection: Connection, pool_id: int) -> list[Range]:
    """The ranges of one pool, by family and address."""
    statement = select(t.ranges).where(t.ranges.c.pool_id == pool_id)
    rows = connection.execute(statement.order_by(t.ranges.c.family, t.ranges.c.first)).mappings()
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
    """Write down what a carve made of `before`: shortened rows, new rows, and the allocations moved along."""
    known = {part.id: part for part in before}
    for part in after:
        old = known.get(part.id) if part.id is not None else None
        if old == part:
            continue
        if part.id is None:
            result = connection.execute(insert(t.ranges).values(**_values(network_id, part)))
            assert result.inserted_primary_key is not None  # noqa: S101
            range_id = int(result.inserted_primary_key[0])
            connection.execute(
                update(t.allocations)
                .where(
                    t.allocations.c.network_id == network_id,
                    t.allocations.c.address.between(part.first, part.last),
                )
                .values(range_id=range_id)
            )
        else:
            range_id = part.id
            changed = _values(network_id, part)
            connection.execute(update(t.ranges).where(t.ranges.c.id == range_id).values(**changed))
        _recount(connection, network_id, part)


def _recount(connection: Connection, network_id: int, part: Range) -> None:
    in_use = (
        select(func.count())
        .select_from(t.allocations)
        .where(
            t.allocations.c.network_id == network_id,
            t.allocations.c.address.between(part.first, part.last),
            t.allocations.c.state != "free",
        )
        .scalar_subquery()
    )
    connection.execute(
        update(t.ranges)
        .where(t.ranges.c.network_id == network_id, t.ranges.c.first == part.first)
        .values(used=in_use)
    )


def holders(connection: Connection, network_id: int, span: AddressRange, limit: int) -> list[Allocation]:
    """Up to `limit` addresses of `span` that somebody holds."""
    statement = with_pool().where(
        t.allocations.c.network_id == network_id,
        t.allocations.c.address.between(span.first, span.last),
        t.allocations.c.state != "free",
    )
    rows = connection.execute(statement.order_by(t.allocations.c.address).limit(limit)).mappings()
    return [read_allocation(row) for row in rows]
