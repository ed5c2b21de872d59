"""Time as the worker keeps it: database time, bells, pauses, and threads that cannot be stopped."""

import asyncio

import pytest

from broker.threads import Threads
from node_worker.clock import DatabaseClock
from node_worker.pacing import Backoff, Bell
from tests.node_allocator import DATABASE_TIME


def test_database_time_goes_on_with_the_monotonic_clock_and_is_never_ahead() -> None:
    now = 100.0
    clock = DatabaseClock(lambda: now)
    assert clock.after(5) is None
    clock.tell(DATABASE_TIME)
    now = 107.5
    later = clock.after(5)
    assert later is not None
    assert (later - DATABASE_TIME).total_seconds() == 12.5


async def test_a_bell_rung_while_nobody_waits_is_heard() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert await bell.wait(None)
    assert not await bell.wait(0.01)


def test_pauses_grow_to_their_limit_and_start_again_after_a_success() -> None:
    backoff = Backoff(1, 4)
    pauses = [backoff.delay() for _ in range(5)]
    for pause, most in zip(pauses, (1, 2, 4, 4, 4), strict=True):
        assert most / 2 <= pause <= most
    backoff.reset()
    assert backoff.delay() <= 1


async def test_a_thread_that_fails_after_its_caller_was_cancelled_is_still_waited_for() -> None:
    loop = asyncio.get_running_loop()
    begun, go_on, over = asyncio.Event(), asyncio.Event(), []

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        over.append(True)
        raise LookupError

    with Threads("test", 1) as threads:
        task = asyncio.create_task(threads.run(work))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert over
