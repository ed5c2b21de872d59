"""What the database has: attached rows, requests without an answer, history."""

from datetime import UTC

from sqlalchemy import Connection, select

from allocator import tables as t
from bench.soak.agreement import Record
from bench.soak.history import Entry
from node_worker.plan import host_link_name


def attached(connection: Connection) -> tuple[Record, ...]:
    """One record for each attachment."""
    a = t.allocations.c
    statement = (
        select(t.networks.c.name.label("network"), t.allocations)
        .join(t.networks, t.networks.c.id == a.network_id)
        .where(a.attachment_id.is_not(None))
        .order_by(a.id)
    )
    records: dict[str, Record] = {}
    for row in connection.execute(statement).mappings():
        named = row["attachment_id"]
        before = records.get(str(named))
        records[str(named)] = Record(
            owner=row["owner"],
            network=row["network"],
            node=row["node"],
            container_id=row["container_id"],
            attachment_id=str(named),
            host_link=host_link_name(named),
            state=row["state"],
            addresses=frozenset({row["address"]}) | (before.addresses if before else frozenset()),
            mac=row["mac"],
        )
    return tuple(records.values())


def unanswered(connection: Connection) -> tuple[str, ...]:
    """Administrative requests that are open, have no answer, or whose waiters were not told it."""
    r = t.requests.c
    open_ones = select(r.request_id, r.name).where(
        r.deadline.is_not(None) | r.answer.is_(None) | (r.has_waiters != 0)
    )
    return tuple(f"{row.name} {row.request_id}" for row in connection.execute(open_ones))


def history(connection: Connection) -> list[Entry]:
    """All rows about addresses."""
    h = t.history.c
    statement = (
        select(t.networks.c.name.label("network"), t.history)
        .join(t.networks, t.networks.c.id == h.network_id)
        .where(h.address.is_not(None))
        .order_by(h.network_id, h.seq)
    )
    fields = Entry.__dataclass_fields__
    return [
        Entry(**{name: row[name] for name in fields} | {"at": row["at"].replace(tzinfo=UTC)})
        for row in connection.execute(statement).mappings()
    ]
