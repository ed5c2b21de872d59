"""What happens because time passed: jobs past their deadline, nodes that fell silent, history that is old.

Every statement is guarded, so any number of allocators may run them side by side.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from allocator import rollout
from allocator.database import Database
from allocator.expiry import expire
from allocator.retention import Retention
from allocator.store import networks, nodes, requests
from allocator.work import AfterCommit, Committed, Work
from broker.outcome import Unavailable

LOST_AFTER_S = 35
"""A node is lost after three heartbeats of 10 s and some slack, in seconds."""

_USER = "allocator"
_AT_ONCE = 50


class Timers:
    """The allocator's timers; `tick` is called about once a second."""

    def __init__(
        self,
        database: Database,
        after_commit: AfterCommit,
        clock: Callable[[], float] = time.monotonic,
        retention: Retention | None = None,
    ) -> None:
        """Without `retention` everything is kept for ever."""
        self._database = database
        self._after_commit = after_commit
        self._clock = clock
        self._retention = retention
        self._serving_since = clock()

    def tick(self) -> None:
        """Move on what is due. Raises `Unavailable` while the database is away."""
        try:
            for name in self._database.run(_overdue):
                self._database.run(partial(_expire, name=name)).tell(self._after_commit)
            for name in self._database.run(nodes.removed):
                self._database.run(partial(_settle, name=name)).tell(self._after_commit)
            expire(self._database, self._after_commit)
            # An allocator that has just started has not had the time to hear of anybody.
            if self._clock() - self._serving_since > LOST_AFTER_S:
                self._database.run(_mark_lost).tell(self._after_commit)
            if self._retention is not None:
                self._retention.tick()
        except Unavailable:
            self._serving_since = self._clock()  # nor has one whose database was away
            raise


def _overdue(connection: Connection) -> list[str]:
    return requests.overdue(connection, networks.database_time(connection), _AT_ONCE)


def _expire(connection: Connection, name: str) -> Committed:
    work = Work(connection)
    network = work.find_network(name)
    # Another allocator may have been faster: look again now that the row is locked.
    if network is not None and name in requests.overdue(connection, work.now, _AT_ONCE):
        rollout.expire(work, network, _USER)
    return work.finish()


def _settle(connection: Connection, name: str) -> Committed:
    """A node that had to remove the network was declared off, or forgotten."""
    work = Work(connection)
    network = work.find_network(name)
    if network is not None:
        rollout.settle(work, network, _USER)
    return work.finish()


def _mark_lost(connection: Connection) -> Committed:
    before = networks.database_time(connection) - timedelta(seconds=LOST_AFTER_S)
    work = Work(connection)
    for name in nodes.silent(connection, before):
        if nodes.mark_lost(connection, name, before):
            work.record_node("node.lost", name, _USER)
    return work.finish()
