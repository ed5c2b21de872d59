"""Forgets history and requests once they are older than operators want to keep them."""

import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from allocator.database import Database
from allocator.store import networks, retention
from broker.outcome import Unavailable

EVERY_S = 60.0
"""How often it is looked whether there is anything to forget, in seconds."""

_CHUNK = 500  # rows of one transaction: about 20 ms
_BUDGET_S = 0.25
_NETWORKS = 50

log = structlog.get_logger("moorage.allocator")


class Retention:
    """Deletes in small transactions, oldest first; any number of allocators may do so side by side.

    What was not relayed as an event stays however old it is. A look that finds nothing costs one dive into
    an index for each network, and a transaction that forgets 500 of 1,000,000 rows 10 to 50 ms: both go by
    what is old and not by what there is.
    """

    def __init__(
        self, database: Database, keep_days: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._keep = timedelta(days=keep_days)
        self._clock = clock
        self._due = 0.0

    def tick(self) -> None:
        """Forget for up to a quarter of a second, if it is time to. Raises `Unavailable`.

        Called about once a second, in between what must not wait: a large backlog goes away over many calls.
        """
        if self._clock() < self._due:
            return
        until = self._clock() + _BUDGET_S
        try:
            while self._clock() < until:
                if not self._database.run(self._forget):
                    self._due = self._clock() + EVERY_S
                    return
        except Unavailable:
            raise
        except Exception:
            # Answers are sent by the same task: what cannot be forgotten must not hold them up.
            self._due = self._clock() + EVERY_S
            log.exception("nothing is forgotten, tries again later")

    def _forget(self, connection: Connection) -> int:
        before = networks.database_time(connection) - self._keep
        gone = 0
        for network_id, relayed_seq in retention.due(connection, before, _NETWORKS):
            if gone < _CHUNK:
                left = _CHUNK - gone
                gone += retention.forget_history(connection, network_id, before, relayed_seq, left)
        if gone < _CHUNK:
            gone += retention.forget_requests(connection, before, _CHUNK - gone)
        return gone
