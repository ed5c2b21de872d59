"""Threads for plain calls that must stay off the event loop, and that are never left running unwatched."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, Self, TypeVar

from broker.haste import Haste

P = ParamSpec("P")
T = TypeVar("T")


class _Outcome(asyncio.Future[T]):
    """What a call comes to. A thread cannot be stopped: whoever awaits this is cancelled once it is there."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002
        """Not now: the task that is cancelled meanwhile gets its CancelledError when it goes on."""
        return False


class Threads:
    """A few threads of one purpose; one thread alone also keeps its calls in order.

    As ThreadPoolExecutor with asyncio's run_in_executor, which takes three futures and four locks for each
    call: a pod's ADD makes six calls, and that was a tenth of what the node worker's interpreter did for it.
    All but the calls themselves happens on the event loop, one for all of an object's life.
    """

    def __init__(self, purpose: str, size: int) -> None:
        self._purpose, self._size = purpose, size
        self._jobs: SimpleQueue[tuple[_Outcome[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._busy = 0
        self._haste = Haste()
        self._closed = False

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns or raises.

        A cancelled caller gets its CancelledError only when the call has ended: whoever undoes its work must
        not run beside it. The calls themselves are bounded by what they do.
        """
        outcome = self.start(call, *args, **kwargs)
        try:
            return await outcome
        except asyncio.CancelledError:
            if outcome.done():
                outcome.exception()  # seen: nobody else will
            raise

    async def quickly(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, for what mostly takes a moment: on the event loop, while no thread is busy and it does.

        To wake up a thread, and the loop after it, takes as long as many a call.
        """
        if self._busy or self._closed or not self._haste.advisable:
            return await self.run(call, *args, **kwargs)
        with self._haste.timed():
            return call(*args, **kwargs)

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """What `call` will come to; it cannot be cancelled. Raises RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError(f"the {self._purpose} threads are closed")
        outcome: _Outcome[T] = _Outcome()
        self._busy += 1
        if self._busy > len(self._threads) < self._size:
            self._add()
        self._jobs.put((outcome, lambda: call(*args, **kwargs)))
        return outcome

    def close(self, *, wait: bool = True) -> None:
        """End the threads when their last call has ended. Afterwards `run` raises RuntimeError."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _add(self) -> None:
        name = f"{self._purpose}_{len(self._threads)}"
        # `close` waits for it; an exit without that does not.
        thread = Thread(target=self._serve, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome, call = job
            try:
                settle, what = outcome.set_result, call()
            except BaseException as error:
                settle, what = outcome.set_exception, error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                outcome.get_loop().call_soon_threadsafe(self._settle, settle, what)
            del job, outcome, call, settle, what  # not kept until the next call

    def _settle(self, settle: Callable[[Any], None], what: Any) -> None:
        self._busy -= 1
        settle(what)


async def ended(future: "asyncio.Future[T]") -> None:
    """Wait until `future` is done, however often the waiting task is cancelled; its outcome is dropped."""
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()


async def whole(task: "asyncio.Task[T]") -> T:
    """The result of `task`, which runs to its end also when the waiting task is cancelled meanwhile."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        raise
