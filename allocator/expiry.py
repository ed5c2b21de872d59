"""Frees pinned addresses whose owner has been away for longer than their pool keeps them (`retain_s`).

An owner that comes back at that very moment loses nothing: both lock the network, and whoever is second sees
what the first one did. Attached again, an address is not overdue any more; freed a moment ago, it is still
the owner's last one, which `address.allocate` gives it before any other and without a cooldown.
"""

from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from allocator.database import Database
from allocator.handlers.addresses import free
from allocator.store import allocations, epochs, pools
from allocator.work import AfterCommit, Committed, Work
from broker.outcome import Unavailable

AT_ONCE = 100
"""How many addresses one transaction frees: requests of the network wait meanwhile."""

_USER = "allocator"
_POOLS = 20

log = structlog.get_logger("moorage.allocator")


def expire(database: Database, after_commit: AfterCommit) -> None:
    """Free what is overdue, up to `AT_ONCE` addresses of a pool; the rest when it is called again.

    Any number of allocators may do so side by side. A look that finds nothing is one statement, and two dives
    into an index for each pool that does not keep addresses for ever. Raises `Unavailable`.
    """
    for network, pool_id in database.run(due):
        try:
            database.run(partial(free_of, network=network, pool_id=pool_id)).tell(after_commit)
        except Unavailable:
            raise
        except Exception:
            # Answers are sent by the same task: a pool that cannot be cleared must not hold them up.
            log.exception("overdue addresses stay, tries again", network=network)


def due(connection: Connection) -> list[tuple[str, int]]:
    """The pools with overdue addresses, by network name and pool id. None while the allocator is paused:
    until the nodes have told what they have, an owner that seems to be away may be there.
    """
    if epochs.paused(connection):
        return []
    return pools.overdue(connection, _POOLS)


def free_of(connection: Connection, network: str, pool_id: int) -> Committed:
    """Free what is overdue in one pool, as it is now that the network is locked."""
    work = Work(connection)
    found = work.find_network(network)
    pool = next((pool for pool in found.pools if pool.id == pool_id), None) if found is not None else None
    if found is not None and pool is not None and pool.retain_s is not None and not work.paused:
        before = work.now - timedelta(seconds=pool.retain_s)
        rows = allocations.overdue(connection, pool_id, before, AT_ONCE)
        work.ledger.load(rows)
        for row in rows:
            free(work, found, row, _USER, retain=True)
    return work.finish()
