"""What leaves the allocator after a commit: nudges to nodes, and answers of jobs to those who wait."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import structlog
from sqlalchemy import Connection, RowMapping

from allocator.database import Database
from allocator.store import requests
from allocator.work import Notice
from broker.outcome import Unavailable
from schemas.errors import ServiceError
from schemas.message import Answer, Message
from schemas.node import Nudge

_PAGE = 100
_NUDGES = 64
"""How many nudges are on their way to the broker at a time."""
_EVERY_S = 1.0
_GATHER_S = 0.02
"""How long to wait for more commits, in seconds: under load each look serves several."""

log = structlog.get_logger("moorage.allocator")


class Post(Protocol):
    """Where messages go: `broker.poster.Poster`, or a fake in unit tests."""

    async def answer(self, reply_to: str, correlation_id: str, request_name: str, answer: Answer) -> None:
        """Deliver a job's answer; returns once the broker has it."""

    async def nudge(self, node: str, message: Message) -> None:
        """Tell a node to sync."""


class Outbox:
    """Sends what commits left to be sent, and runs the timers. Answers survive a crash, nudges need not."""

    def __init__(
        self,
        database: Database,
        post: Post,
        loop: asyncio.AbstractEventLoop,
        touched: Callable[[Collection[int]], None],
    ) -> None:
        """`touched` is told which networks got new history (`allocator.relay.Relay.touched`)."""
        self._database = database
        self._post = post
        self._loop = loop
        self._touched = touched
        self._wake = asyncio.Event()
        self._notices: deque[Notice] = deque()
        self._next_tick = 0.0

    def after_commit(
        self, notices: Sequence[Notice], touched: Collection[int] = (), *, answered: bool = False
    ) -> None:
        """Called from the database's thread after each commit; `touched` networks got new history, by id."""
        self._touched(touched)
        if notices or answered:
            self._notices.extend(notices)
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self, tick: Callable[[], None]) -> None:
        """Until cancelled: send at each commit, and look once a second for what others left behind.

        `tick` (`allocator.timers.Timers.tick`) runs once a second.
        """
        while True:
            try:
                await self._tick(tick)
                await self._send()
            except (Unavailable, ServiceError) as away:
                log.warning("outbox waits", reason=str(away))
            except Exception:
                # Consuming goes on: a job whose answer cannot be sent must not stop every other request.
                log.exception("outbox failed, tries again")
            await self._pause()

    async def _tick(self, tick: Callable[[], None]) -> None:
        if time.monotonic() < self._next_tick:
            return
        try:
            await asyncio.to_thread(tick)
        finally:
            self._next_tick = time.monotonic() + _EVERY_S

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(max(0.0, self._next_tick - time.monotonic())):
                await self._wake.wait()
                await asyncio.sleep(_GATHER_S)
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _send(self) -> None:
        while self._notices:
            await self._nudge([self._notices.popleft() for _ in range(min(_NUDGES, len(self._notices)))])
        for row in await asyncio.to_thread(self._database.run, _unsent):
            answer = Answer.model_validate(row["answer"])
            for reply_to, correlation_id in row["waiters"]:
                await self._post.answer(reply_to, correlation_id, row["name"], answer)
            await asyncio.to_thread(self._mark_sent, row["request_id"])

    async def _nudge(self, notices: Sequence[Notice]) -> None:
        """Send all of them together, and wait for the broker once. Raises the first failure at the end."""
        sent = [
            self._post.nudge(notice.node, Nudge(network=notice.network, version=notice.version))
            for notice in notices
        ]
        for failure in await asyncio.gather(*sent, return_exceptions=True):
            if failure is not None:
                raise failure

    def _mark_sent(self, request_id: str) -> None:
        self._database.run(lambda connection: requests.sent(connection, request_id))


def _unsent(connection: Connection) -> list[RowMapping]:
    return requests.unsent(connection, _PAGE)
