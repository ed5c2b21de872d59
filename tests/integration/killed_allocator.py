"""A real allocator that stops dead at one point, says so on stdout and waits there to be killed.

`python -m tests.integration.killed_allocator POINT COUNT` takes its settings from the environment, as the
product does, and runs what `moorage allocator` runs; the first COUNT requests come to it at once, to be one
batch. Nothing of the product knows of the points: they hang on SQLAlchemy's events and on aio-pika. Those of
the database count in the threads that serve partitions.
"""

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from broker import topology
from broker.frames import Arrived
from broker.intake import Intake
from broker.outlet import Answered, Replies
from compose import allocator_process
from compose.allocator_process import run_allocator
from compose.logging import configure_logging
from compose.running import run_until_stopped
from compose.settings import read_settings

HERE = "stopped here"
_PARTITIONS = tuple(topology.allocator_queue(p) for p in range(topology.PARTITIONS))


def _say() -> None:
    sys.stdout.write(f"{HERE}\n")
    sys.stdout.flush()


def _stop() -> None:
    if threading.current_thread().name.startswith(_PARTITIONS):
        _say()
        threading.Event().wait()


async def _stop_alone() -> None:
    """The event loop goes on, so that what was published before also leaves."""
    _say()
    await asyncio.Event().wait()


def before(statement: str) -> Callable[[], None]:
    """The first statement in which the pattern is found is not sent any more."""
    wanted = re.compile(statement)

    def execute(_: Connection, __: Any, sql: str, *___: Any) -> None:
        if wanted.search(sql):
            _stop()

    return lambda: event.listen(Engine, "before_cursor_execute", execute)


def before_commit() -> None:
    """All statements were sent, the COMMIT is not."""
    event.listen(Engine, "commit", lambda _: _stop())


def after_commit() -> None:
    """The connection goes back to the pool when its transaction is over."""
    event.listen(Pool, "checkin", lambda *_: _stop())


def between_replies() -> None:
    """One reply was published."""
    send = Replies.send

    async def send_one(self: Replies, answers: Sequence[Answered], *, timeout_s: float) -> None:
        await send(self, answers[:1], timeout_s=timeout_s)
        await _stop_alone()

    Replies.send = send_one  # type: ignore[method-assign]


def before_ack() -> None:
    """All replies of a batch were published, nothing is acknowledged and nothing more is taken."""
    take = Intake.take
    reached: list[Intake] = []

    def ack(self: Intake, _: Arrived) -> None:
        reached.append(self)
        _say()

    async def take_no_more(self: Intake, limit: int) -> list[Arrived]:
        if reached:
            await asyncio.Event().wait()
        return await take(self, limit)

    Intake.ack = ack  # type: ignore[method-assign]
    Intake.take = take_no_more  # type: ignore[method-assign]


POINTS: dict[str, Callable[[], None]] = {
    "before the transaction": before(""),
    "before an address is written": before(r"(INTO|UPDATE) `?allocations"),
    "before a range is counted": before(r"(INTO|UPDATE) `?ranges"),
    "before history is written": before(r"INTO `?history"),
    "before the last number is written": before(r"UPDATE `?networks"),
    "before COMMIT": before_commit,
    "after COMMIT": after_commit,
    "between replies": between_replies,
    "before the ack": before_ack,
}


def gather(count: int) -> None:
    """Let nobody take a batch before there are so many messages; queries come as ever."""
    take = Intake.take

    async def take_together(self: Intake, limit: int) -> list[Arrived]:
        while limit > allocator_process._READS and len(self._waiting) < count and self._lost is None:
            self._wanted = count
            self._bell.clear()
            await self._bell.wait()
        return await take(self, limit)

    Intake.take = take_together  # type: ignore[method-assign]


def main(point: str, count: int) -> None:
    """Run until killed."""
    POINTS[point]()
    gather(count)
    settings = read_settings()
    configure_logging(settings.log_level, "text")
    run_until_stopped(run_allocator(settings))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
