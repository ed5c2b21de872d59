"""Pools as tables."""

from rich.console import Console

from console.output import Column, draw_rows
from console.times import spelled
from schemas.pool import PoolPage, PoolView


def _ranges(view: PoolView) -> tuple[str, ...]:
    """The ranges, and how many more there are: an answer holds only the first of many."""
    told = tuple(str(part) for part in view.ranges)
    more = view.range_count - len(told)
    return (*told, f"and {more} more") if more > 0 else told


def _retain(view: PoolView) -> str | None:
    if view.policy != "pinned":
        return None
    return "for ever" if view.retain_s is None else spelled(view.retain_s)


_COLUMNS: tuple[Column[PoolView], ...] = (
    Column("POOL", lambda view: view.pool),
    Column("POLICY", lambda view: view.policy),
    Column("RANGES", _ranges, folds=True),
    Column("USED", lambda view: f"{view.used} of {view.total}"),
    Column("OWNERS", lambda view: view.owners or "all of the network", folds=True),
    Column("COOLDOWN", lambda view: spelled(view.cooldown_s), rank=1),
    Column("RETAIN", _retain, rank=2),
    Column("ALLOW MAC", lambda view: "yes" if view.allow_mac else "no", rank=3),
    Column("VERSION", lambda view: view.version, rank=4),
)


def draw_pools(console: Console, page: PoolPage) -> None:
    """One row for each pool."""
    draw_rows(console, _COLUMNS, page.pools)


def draw_pool(console: Console, view: PoolView) -> None:
    """One pool as a table of one row."""
    draw_rows(console, _COLUMNS, (view,))
