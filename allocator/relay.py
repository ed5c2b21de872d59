"""Sends history to the exchange of events: at least once, per network in order, whoever dies meanwhile.

History is its own outbox. A network's position moves on, by compare-and-set, only once the broker has
confirmed everything up to it; so whoever comes next begins where the last one is known to have arrived.
Two allocators at one network may both send the same rows, and no reader ever sees a row before those in
front of it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

import structlog
from sqlalchemy import Connection

from allocator.database import Database
from allocator.pages import pages
from allocator.store import relaying
from broker.connection import Backoff
from broker.outcome import Unavailable
from schemas.errors import ServiceError

LOOK_EVERY_S = 1.0
"""How often all networks are looked at for history that somebody else left behind."""
LEFT_BEHIND_S = 2.0
"""A position that stands still for so long has nobody who moves it."""

_AT_ONCE = 400  # rows of one network: two or three messages
_NETWORKS = 16
# A round costs 2 to 3 ms of CPU beside its rows, of which requests have better use: so messages wait to fill.
# What happens after a quiet while goes out soon, what happens all the time four times a second.
_GATHER_S = 0.05
_GATHER_BUSY_S = 0.25

log = structlog.get_logger("moorage.allocator")


class Exchange(Protocol):
    """Where events go: `broker.poster.Poster`, or a fake in tests."""

    async def events(self, network: str, body: bytes) -> None:
        """Publish one message; returns once the broker has it. Raises `unavailable`."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """The next messages of one network, which take its position from `old` to `new`."""

    network_id: int
    network: str
    old: int
    new: int
    bodies: tuple[bytes, ...]
    more: bool


class Relay:
    """One allocator's relay. It waits for a broker or a database that is away, and loses no row by it."""

    def __init__(self, database: Database, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._exchange = exchange
        self._loop = loop
        self._news = asyncio.Event()
        self._rung = False
        self._touched: deque[int] = deque()
        self._pending: dict[int, None] = {}  # a set that remembers who came first
        self._standing: dict[int, tuple[int, float]] = {}
        self._next_look = 0.0
        self._not_before = 0.0

    def touched(self, network_ids: Collection[int]) -> None:
        """These networks have new history, which is committed. May be called from any thread."""
        self._touched.extend(network_ids)
        # One bell for all that is touched before the relay takes it.
        if network_ids and not self._rung:
            self._rung = True
            self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        """Relay until cancelled."""
        backoff, problem = Backoff(), ""
        while True:
            try:
                await self._step()
                if problem:
                    log.info("events go on")
                backoff.reset()
                problem = ""
            except (Unavailable, ServiceError) as away:
                if str(away) != problem:
                    problem = str(away)
                    log.warning("events wait", reason=problem)
                await backoff.wait()
            except Exception:
                # Whatever it is, requests and their answers go on.
                log.exception("events failed, tries again")
                await backoff.wait()

    async def _step(self) -> None:
        if not self._pending:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next_look - time.monotonic())):
                    await self._news.wait()
        if time.monotonic() >= self._next_look:
            await self._look()
        if self._pending or self._touched:
            pause_s = self._not_before - time.monotonic()
            await asyncio.sleep(pause_s if pause_s > 0 else _GATHER_S)
            self._collect()
            await self._relay(list(islice(self._pending, _NETWORKS)))

    async def _look(self) -> None:
        """Adopt the networks whose position stands still although there is history beyond it.

        One that its own allocator relays moves on, and is left to it however busy it is.
        """
        now = time.monotonic()
        self._next_look = now + LOOK_EVERY_S
        behind = await asyncio.to_thread(self._database.run, relaying.behind)
        seen, self._standing = self._standing, {}
        for network_id, position in behind.items():
            known = seen.get(network_id)
            self._standing[network_id] = known if known and known[0] == position else (position, now)
            if now - self._standing[network_id][1] >= LEFT_BEHIND_S:
                self._pending[network_id] = None

    def _collect(self) -> None:
        self._rung = False
        self._news.clear()
        while self._touched:
            self._pending[self._touched.popleft()] = None

    async def _relay(self, network_ids: Sequence[int]) -> None:
        """One batch of each of these networks, side by side. Those with more to come, or that failed, stay.

        The position of each moves in a transaction of its own: it is in the row that requests of the
        network lock, and no lock may wait for another network's. Raises the first failure, after the rest.
        """
        started = time.monotonic()
        batches = await asyncio.to_thread(self._database.run, partial(_read, network_ids=network_ids))
        failures = await asyncio.gather(*map(self._publish, batches), return_exceptions=True)
        sent = [batch for batch, failure in zip(batches, failures, strict=True) if failure is None]
        moved = await asyncio.to_thread(self._advance, sent)
        for network_id in network_ids:
            del self._pending[network_id]
        # A backlog that another allocator moves is left to it: both would send all of it.
        unfinished = [batch for batch in batches if batch not in sent or batch.more == (batch in moved)]
        self._pending.update((batch.network_id, None) for batch in unfinished)
        ended = time.monotonic()
        self._not_before = ended + self._pause_s(batches, ended - started)
        for failure in failures:
            if failure is not None:
                raise failure

    async def _publish(self, batch: _Batch) -> None:
        # One after the other: were the first one lost, readers would drop it when it comes again.
        for body in batch.bodies:
            await self._exchange.events(batch.network, body)

    def _pause_s(self, batches: Sequence[_Batch], took_s: float) -> float:
        """How long to let the next messages fill, in seconds. At least half of all time is for requests."""
        if any(batch.more for batch in batches):
            return took_s  # a backlog: they are full
        return _GATHER_S if self._pending else _GATHER_BUSY_S

    def _advance(self, sent: Sequence[_Batch]) -> list[_Batch]:
        """Move positions; the batches whose position was still theirs to move."""

        def advance(connection: Connection, batch: _Batch) -> bool:
            return relaying.advance(connection, batch.network_id, batch.old, batch.new)

        return [batch for batch in sent if self._database.run(partial(advance, batch=batch))]


def _read(connection: Connection, network_ids: Sequence[int]) -> list[_Batch]:
    """What is next in each of these networks that has history to relay."""
    found = []
    for network_id, network, position, seq in relaying.positions(connection, network_ids):
        rows = relaying.unrelayed(connection, network_id, position, _AT_ONCE)
        bodies, more = tuple(pages(network, position, rows)), len(rows) == _AT_ONCE
        # Rows are committed with the seq that covers them: where there are none, none will come.
        new = rows[-1][0] if rows else seq
        found.append(_Batch(network_id, network, position, new, bodies, more))
    return found
