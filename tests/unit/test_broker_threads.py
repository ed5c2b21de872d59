"""Threads for plain calls: how many there are, in which order they work, and what their callers get."""

import asyncio
import threading

import pytest

from broker.threads import Threads


async def test_a_call_returns_or_raises_what_it_returns_or_raises() -> None:
    def fail(what: str) -> None:
        raise LookupError(what)

    with Threads("test", 2) as threads:
        assert await threads.run(max, 1, 2) == 2
        assert await threads.run(sorted, [2, 1], reverse=True) == [2, 1]
        with pytest.raises(LookupError, match="nothing"):
            await threads.run(fail, "nothing")
        assert await threads.run(max, 3, 4) == 4, "the thread lives on"


async def test_there_are_as_many_threads_as_are_busy_and_never_more_than_told() -> None:
    meeting = threading.Barrier(3, timeout=5)
    names: set[str] = set()

    def meet() -> None:
        names.add(threading.current_thread().name)
        meeting.wait()

    with Threads("test", 3) as threads:
        for _ in range(5):
            await threads.run(lambda: names.add(threading.current_thread().name))
        assert names == {"test_0"}
        await asyncio.gather(*(threads.run(meet) for _ in range(6)))
        assert names == {"test_0", "test_1", "test_2"}


async def test_one_thread_keeps_its_calls_in_order() -> None:
    done: list[int] = []
    with Threads("test", 1) as threads:
        await asyncio.gather(*(threads.run(done.append, number) for number in range(50)))
    assert done == list(range(50))


async def test_a_call_that_waits_for_its_turn_is_made_although_its_caller_is_cancelled() -> None:
    held, done = threading.Event(), list[int]()
    with Threads("test", 1) as threads:
        first = asyncio.create_task(threads.run(held.wait, 5))
        second = asyncio.create_task(threads.run(done.append, 2))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        assert not second.done()
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await first
    assert done == [2]


async def test_closed_threads_take_no_more_calls_and_have_ended() -> None:
    threads = Threads("test", 2)
    await threads.run(max, 1, 2)
    threads.close()
    with pytest.raises(RuntimeError, match="test threads are closed"):
        await threads.run(max, 1, 2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test_")]


async def test_what_takes_a_moment_needs_no_thread_while_none_is_busy() -> None:
    held = threading.Event()
    with Threads("test", 2) as threads:
        assert await threads.quickly(threading.current_thread) is threading.main_thread()
        waiting = asyncio.create_task(threads.run(held.wait, 5))
        await asyncio.sleep(0)
        assert await threads.quickly(threading.current_thread) is not threading.main_thread()
        held.set()
        assert await waiting
        assert await threads.quickly(threading.current_thread) is threading.main_thread()


async def test_what_was_slow_on_the_event_loop_gets_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.haste._QUICK_S", 0.0)
    with Threads("test", 1) as threads:
        assert await threads.quickly(threading.current_thread) is threading.main_thread()
        assert await threads.quickly(threading.current_thread) is not threading.main_thread()


async def test_nothing_is_done_quickly_after_the_end() -> None:
    threads = Threads("test", 1)
    threads.close()
    with pytest.raises(RuntimeError, match="closed"):
        await threads.quickly(max, 1, 2)
