"""What must be true of the database after anything: read by plain SQL, whatever the allocator says."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select

from allocator import tables as t
from allocator.database import Database


def held_by(engine: Engine, attachments: Iterable[UUID] | None = None) -> dict[UUID, str]:
    """The IPv4 address of each live attachment (of these)."""
    a = t.allocations.c
    statement = select(a.attachment_id, a.address).where(a.state == "attached", a.family == 4)
    if attachments is not None:
        statement = statement.where(a.attachment_id.in_(list(attachments)))
    return Database(engine).run(
        lambda connection: {row.attachment_id: str(row.address) for row in connection.execute(statement)}
    )


def changes_of(engine: Engine, attachments: Iterable[UUID]) -> dict[UUID, list[tuple[str, str | None]]]:
    """Every history row of these attachments, in order: event and address."""
    h = t.history.c
    statement = select(h.attachment_id, h.event, h.address).where(h.attachment_id.in_(list(attachments)))

    def read(connection: Connection) -> dict[UUID, list[tuple[str, str | None]]]:
        found = defaultdict(list)
        for row in connection.execute(statement.order_by(h.network_id, h.seq)):
            found[row.attachment_id].append((row.event, row.address and str(row.address)))
        return dict(found)

    return Database(engine).run(read)


def check(engine: Engine) -> None:
    """Counters are right, and history alone tells who holds which address now, and that none had two."""
    Database(engine).run(_check_counters)
    Database(engine).run(_check_history)


def _check_counters(connection: Connection) -> None:
    used = select(t.allocations.c.range_id, func.count()).where(t.allocations.c.state != "free")
    counted = Counter(dict(connection.execute(used.group_by(t.allocations.c.range_id)).all()))
    kept = dict(connection.execute(select(t.ranges.c.id, t.ranges.c.used)).all())
    right = {part: counted[part] for part in kept}
    assert kept == right, f"ranges count {kept} used, but {right} are"


def _check_history(connection: Connection) -> None:
    h, a = t.history.c, t.allocations.c
    holders: dict[tuple[int, str], UUID | None] = {}
    told = select(h.network_id, h.address, h.event, h.attachment_id).where(h.address.is_not(None))
    for row in connection.execute(told.order_by(h.network_id, h.seq)):
        where = row.network_id, str(row.address)
        holder = holders.get(where)
        if row.event in ("address.attached", "address.adopted"):
            assert holder is None, f"{where}: {row.attachment_id} got it while {holder} held it"
            holders[where] = row.attachment_id
        elif row.event in ("address.freed", "address.waiting", "address.taken_over"):
            assert holder == row.attachment_id, f"{where}: {row.event} of {row.attachment_id}, not {holder}"
            holders[where] = None
    live = select(a.network_id, a.address, a.attachment_id).where(a.attachment_id.is_not(None))
    rows = {(row.network_id, str(row.address)): row.attachment_id for row in connection.execute(live)}
    known = {where: holder for where, holder in holders.items() if holder is not None}
    assert rows == known, f"rows and history differ in {rows.items() ^ known.items()}"
