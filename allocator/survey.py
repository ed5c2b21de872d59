"""What the database says of itself every few seconds: whether it takes writes, and how much there is.

Its answers are kept, so that whoever looks at them waits for nothing. What a look costs bounds how often
there is one. To count the addresses that wait is to walk an index: where they are many it is done less often.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from allocator import schema
from allocator.database import Database, error_number
from allocator.store import epochs, survey
from allocator.store.survey import Lag, Outbox, PoolCount
from broker.outcome import Unavailable

_PULSE_S = 2.0
_COUNT_S = 10.0
_SHARE = 50
"""A count may take this part of all time: the next one is so many times as far away as the last one took."""
_STALE_S = 120.0
_NO_TABLE = 1146  # MySQL's number for it: nobody ran `moorage db upgrade` here
SILENT_S = 15.0
"""Without an answer for so long, the database counts as away."""

_NO_LAG, _NO_OUTBOX = Lag(0, 0.0), Outbox(0, 0, 0.0)

log = structlog.get_logger("moorage.allocator")


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there was at the last count."""

    pools: Sequence[PoolCount] = ()
    nodes: Mapping[str, int] = field(default_factory=dict)
    networks: Mapping[str, int] = field(default_factory=dict)
    rollouts: Mapping[str, int] = field(default_factory=dict)
    lag: Lag = _NO_LAG
    outbox: Outbox = _NO_OUTBOX


class Survey:
    """The last answers. Written by `run`, read in any thread."""

    def __init__(self, database: Database, now: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._now = now
        self._answered_at = now()
        self._count_at = self._withheld_at = self._counted_at = float("-inf")
        self.problem: str | None = "it was not asked yet"
        """Why the database did not answer the last time."""
        self.paused = False
        self.revision: str | None = None
        """What the schema was at, at the last answer."""
        self.known = schema.head()
        """The newest revision that this code knows."""
        self.outdated = False
        """Whether the schema is older than this code needs."""
        self.counts: Counts | None = None
        """None while the database is away: numbers of an hour ago mislead."""
        self.withheld: Mapping[tuple[int, str], int] | None = None
        """As `store.survey.withheld`, of all pools."""
        self.took_s: dict[str, float] = {"counts": 0.0, "addresses": 0.0}
        """How long the last counts took, in seconds."""

    @property
    def away(self) -> str | None:
        """Why the database counts as away; None while it takes writes."""
        if self.problem is not None:
            return self.problem
        silent = self._now() - self._answered_at
        return f"it has not answered for {silent:.0f} s" if silent > SILENT_S else None

    async def run(self) -> None:
        """Look until cancelled. A count that takes its time holds up no question whether writes are taken."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_again_and_again(self.look))
            group.create_task(_again_and_again(self.count))

    def look(self) -> None:
        """Ask whether the database takes writes. Blocks, for a thread."""
        try:
            self.paused, revision = self._database.run(_pulse)
        except Unavailable as error:
            self._lost(str(error))
        except DBAPIError as error:
            if error_number(error) != _NO_TABLE:
                self._lost(f"{type(error).__name__}: {error.orig}")
                raise
            self._answered(None)
        else:
            self._answered(revision)

    def _answered(self, revision: str | None) -> None:
        if revision is None or revision != self.revision:
            self.revision = revision
            self.outdated = revision != self.known and not schema.is_newer(revision)
        self._answered_at, self.problem = self._now(), None

    def _lost(self, why: str) -> None:
        self.problem, self.counts, self.withheld = why, None, None
        self._count_at = self._withheld_at = float("-inf")

    def count(self) -> None:
        """See how much there is, where that is due. Blocks, for a thread.

        Tried once: a server that was too slow is asked again later. Addresses that wait are counted apart:
        that may take longer than all the rest.
        """
        if self.away is not None or self.outdated:
            return
        try:
            begun = self._now()
            if begun >= self._count_at:
                self.counts = self._database.attempt(_counts)
                self._count_at = self._after(begun, "counts")
            begun = self._now()
            if begun >= self._withheld_at and self.counts is not None:
                pool_ids = sorted({pool.pool_id for pool in self.counts.pools})
                self.withheld = self._database.attempt(partial(survey.withheld, pool_ids=pool_ids))
                self._withheld_at = self._after(begun, "addresses")
            self._counted_at = self._now()
        except (DBAPIError, PoolTimeout, Unavailable) as error:
            log.warning("how much there is cannot be counted", reason=str(getattr(error, "orig", error)))
            self._withheld_at = self._now() + _COUNT_S
            if self._now() - self._counted_at > _STALE_S:
                self.counts = self.withheld = None

    def _after(self, begun: float, what: str) -> float:
        """Note what a count cost that began then; when it may be made again."""
        self.took_s[what] = took_s = self._now() - begun
        return begun + max(_COUNT_S, _SHARE * took_s)


async def _again_and_again(look: Callable[[], None]) -> None:
    while True:
        try:
            await asyncio.to_thread(look)
        except Exception:
            log.exception("the database cannot be surveyed")
        await asyncio.sleep(_PULSE_S)


def _pulse(connection: Connection) -> tuple[bool, str | None]:
    epochs.touch(connection)
    return epochs.paused(connection), survey.revision(connection)


def _counts(connection: Connection) -> Counts:
    return Counts(
        pools=survey.pools(connection),
        nodes=survey.nodes(connection),
        networks=survey.networks(connection),
        rollouts=survey.rollouts(connection),
        lag=survey.lag(connection),
        outbox=survey.outbox(connection),
    )
