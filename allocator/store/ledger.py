"""A ledger's changes written down: one statement for all new rows, one for all changed ones.

Every changed row is guarded by what was read of it. Where somebody else was faster, the row lock on the
network notwithstanding, the transaction is taken back and run again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

from allocator import tables as t
from allocator.ledger import Ledger, RangeChange
from allocator.model import Allocation
from allocator.store.writes import Writes

_CONVERTED = ("id", "address", "attachment_id")
_NEW = tuple(field.name for field in fields(Allocation) if field.name not in _CONVERTED)
_plain = attrgetter(*_NEW)
_SET = ("since", "owner", "pinned_owner", "ifname", "mac", "node", "container_id")
_UNIQUE = ("pinned_owner", "mac", "attachment_id")
"""Columns whose values two rows must not have at once, be it between two statements."""
_AT_ONCE = 500

Change = tuple[Allocation, Allocation]


def write(ledger: Ledger, writes: Writes) -> None:
    """Add what changed and what is new to `writes`, which stop where a row is not as it was."""
    changed, added = ledger.changed(), ledger.added()
    _vacate(writes, changed, added)
    for start in range(0, len(changed), _AT_ONCE):
        _update(writes, changed[start : start + _AT_ONCE])
    if added:
        writes.add_rows(_INSERT, [_new(row) for row in added])
    for change in ledger.ranges():
        _write_range(writes, change)


_INSERT = f"INSERT INTO allocations ({', '.join(_NEW)}, address, attachment_id, family)"


def _new(row: Allocation) -> tuple[Any, ...]:
    attachment_id = row.attachment_id.bytes if row.attachment_id is not None else None
    return (*_plain(row), t.stored(row.address), attachment_id, row.family)


_VACATE = "UPDATE allocations SET pinned_owner = NULL, mac = NULL, attachment_id = NULL WHERE id IN %s"


def _vacate(writes: Writes, changed: Sequence[Change], added: Iterable[Allocation]) -> None:
    """Clear what one row loses and another gains, so that no unique key sees both at once."""
    after = [row for _, row in changed]
    gained = {(name, getattr(row, name)) for row in (*after, *added) for name in _UNIQUE}
    movers = [
        old.id for old, new in changed if any((name, getattr(old, name)) in gained for name in lost(old, new))
    ]
    if movers:
        writes.add(_VACATE, (movers,))


def lost(old: Allocation, new: Allocation) -> list[str]:
    """The unique columns whose value the row gives up."""
    return [name for name in _UNIQUE if getattr(old, name) not in (None, getattr(new, name))]


def _update(writes: Writes, changed: Sequence[Change]) -> None:
    values = [value for old, new in changed for value in _values(old, new)]
    writes.add(_update_statement(len(changed)), values)
    writes.require_rows(len(changed))


def _values(old: Allocation, new: Allocation) -> Iterable[Any]:
    yield from (old.id, old.state, old.since, new.state)
    yield from (getattr(new, name) for name in _SET)
    yield new.attachment_id.bytes if new.attachment_id is not None else None


@lru_cache(maxsize=_AT_ONCE)
def _update_statement(rows: int) -> str:
    """An UPDATE of so many rows, each with values of its own. The few new values lead the join.

    MySQL and MariaDB know no other single statement for this that keeps every unique key a guard:
    INSERT ... ON DUPLICATE KEY UPDATE would change whichever row a key names.
    """
    columns = ("id", "was_state", "was_since", "state", *_SET, "attachment_id")
    first = "SELECT " + ", ".join(f"%s AS {name}" for name in columns)
    others = " UNION ALL SELECT " + ", ".join(["%s"] * len(columns))
    assigned = ", ".join(f"a.{name} = v.{name}" for name in ("state", *_SET, "attachment_id"))
    return (
        f"UPDATE ({first}{others * (rows - 1)}) AS v STRAIGHT_JOIN allocations AS a "  # noqa: S608  no input
        f"ON a.id = v.id AND a.state = v.was_state AND a.since = v.was_since SET {assigned}"
    )


_COUNT = "UPDATE ranges SET used = used + %s WHERE id = %s"
_MOVE = "UPDATE ranges SET `cursor` = %s, used = used + %s WHERE id = %s"


def _write_range(writes: Writes, change: RangeChange) -> None:
    if change.moves_cursor:
        cursor = t.stored(change.cursor) if change.cursor is not None else None
        writes.add(_MOVE, (cursor, change.used, change.range_id))
    else:
        writes.add(_COUNT, (change.used, change.range_id))
