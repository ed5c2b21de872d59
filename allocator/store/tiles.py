"""The rows of a part of a network, counted by tile in the database."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, and_, func, literal_column, select

from allocator import tables as t
from allocator.tiles import Grid, Rows

_BITS = 128


def counts(connection: Connection, network_id: int, grid: Grid) -> list[Rows]:
    """How many rows are in each tile, pool and state, by the database's time."""
    a = t.allocations.c
    cooled: ColumnElement[Any] = literal_column("UTC_TIMESTAMP(6) - INTERVAL pools.cooldown_s SECOND")
    latest = select(cooled).select_from(t.pools).where(t.pools.c.id == a.pool_id)
    cooling = and_(a.state == "free", a.since > latest.scalar_subquery())
    within = grid.within
    tile = _tile(grid).label("tile")
    groups = (tile, a.pool_id, a.state, cooling.label("cooling"))
    statement = (
        select(*groups, func.count())
        .where(
            a.network_id == network_id,
            a.address.between(within.network_address, within.broadcast_address),
        )
        .group_by("tile", a.pool_id, a.state, "cooling")
    )
    return [
        Rows(at, pool, state, bool(cool), n) for at, pool, state, cool, n in connection.execute(statement)
    ]


def _tile(grid: Grid) -> ColumnElement[int]:
    """The bits of a stored address that number its tile: at most 8, in one byte or across two."""
    end = _BITS - grid.tile_bits
    last = (end - 1) // 8
    two = _byte(last - 1) * 256 + _byte(last)
    tiles = 1 << (grid.tile_prefix - grid.within.prefixlen)
    return two.op(">>", return_type=Integer())(8 * (last + 1) - end).op("%", return_type=Integer())(tiles)


def _byte(number: int) -> ColumnElement[int]:
    """A byte of the address, counted from 0."""
    return func.ord(func.substring(t.allocations.c.address, number + 1, 1), type_=Integer())
