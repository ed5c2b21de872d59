"""What is older than it is kept for: history that was relayed, and requests that were answered."""

from datetime import datetime

from sqlalchemy import Connection, Row, delete, select

from allocator import tables as t

_n, _h, _r = t.networks.c, t.history.c, t.requests.c
_BY_TIME = "FORCE INDEX (ix_history_at)"


def due(connection: Connection, before: datetime, limit: int) -> list[Row[int, int]]:
    """Id and relayed_seq of networks with relayed history from before then: one look at each one's oldest.

    As EXISTS, MariaDB would read a network's whole index to find that nothing is old.
    """
    oldest = (
        select(_h.at)
        .with_hint(t.history, _BY_TIME)
        .where(_h.network_id == _n.id, _h.seq <= _n.relayed_seq)
        .order_by(_h.at)
        .limit(1)
        .scalar_subquery()
    )
    return list(connection.execute(select(_n.id, _n.relayed_seq).where(oldest < before).limit(limit)))


def forget_history(
    connection: Connection, network_id: int, before: datetime, relayed_seq: int, limit: int
) -> int:
    """Delete up to `limit` rows, the oldest, of what was relayed; how many.

    Found by ix_history_at and deleted by key. A plain DELETE with a limit may choose the key to search by,
    and read all that is to stay.
    """
    found = (
        select(_h.seq)
        .with_hint(t.history, _BY_TIME)
        .where(_h.network_id == network_id, _h.at < before, _h.seq <= relayed_seq)
        .order_by(_h.at)
        .limit(limit)
    )
    seqs = connection.execute(found).scalars().all()
    if not seqs:
        return 0
    return connection.execute(delete(t.history).where(_h.network_id == network_id, _h.seq.in_(seqs))).rowcount


def forget_requests(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to `limit` requests, the oldest, that were answered and that nobody waits for; how many."""
    settled = (_r.has_waiters == 0, _r.deadline.is_(None), _r.answer.is_not(None))
    found = (
        select(_r.request_id)
        .with_hint(t.requests, "FORCE INDEX (ix_requests_waiters)")
        .where(*settled, _r.created_at < before)
        .order_by(_r.created_at)
        .limit(limit)
    )
    names = connection.execute(found).scalars().all()
    if not names:
        return 0
    # Somebody may have asked for one again meanwhile, and wait for it.
    return connection.execute(delete(t.requests).where(_r.request_id.in_(names), *settled)).rowcount
