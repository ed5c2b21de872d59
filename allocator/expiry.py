"""Pinned addresses whose owner stayed away longer than its pool keeps them: they become free.

An owner that comes back at that very moment either finds its address, for the network's row is locked and
what waits is read again under that lock, or comes a moment later and gets one like everybody else.
"""

from datetime import timedelta
from functools import partial

from sqlalchemy import Connection, RowMapping

from allocator.database import Database
from allocator.handlers.addresses import free
from allocator.store import allocations, networks, pools
from allocator.work import AfterCommit, Committed, Work

_USER = "allocator"
_AT_ONCE = 100
"""How many addresses one transaction frees: requests of the network wait meanwhile."""


def expire(database: Database, after_commit: AfterCommit) -> None:
    """Free what is due, a hundred addresses of each pool at most. Any allocator may run it at any time.

    Costs a query, and one more for each pool that does not keep addresses for ever. Raises `Unavailable`.
    """
    for pool in database.run(_due):
        database.run(partial(_expire, pool=pool)).tell(after_commit)


def _due(connection: Connection) -> list[RowMapping]:
    now = networks.database_time(connection)
    return [
        pool
        for pool in pools.retaining(connection)
        if allocations.overdue(connection, pool["id"], now - timedelta(seconds=pool["retain_s"]), 1)
    ]


def _expire(connection: Connection, pool: RowMapping) -> Committed:
    work = Work(connection)
    network = work.find_network(pool["name"])
    kept = next((p for p in network.pools if p.id == pool["id"]), None) if network is not None else None
    if network is not None and kept is not None and kept.retain_s is not None:
        before = work.now - timedelta(seconds=kept.retain_s)
        rows = allocations.overdue(connection, kept.id, before, _AT_ONCE)
        work.ledger.load(rows)
        for row in rows:
            free(work, network, row, _USER, retain=True)
    return work.finish()
