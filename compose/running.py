"""How every long-running process runs: on uvloop, until it is told to stop."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

import uvloop


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on uvloop until it ends, or until SIGTERM or SIGINT cancels it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_stoppable(work))


async def _stoppable(work: Coroutine[Any, Any, None]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
