"""Threads for plain calls that must stay off the event loop, and that are never left running unwatched."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A few threads of one purpose; one thread alone also keeps its calls in order."""

    def __init__(self, purpose: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=size, thread_name_prefix=purpose)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns or raises.

        A cancelled caller gets its CancelledError only when the call has ended: a thread cannot be stopped,
        and whoever undoes its work must not run beside it. The calls themselves are bounded by what they do.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, lambda: call(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await ended(future)
            raise

    def close(self) -> None:
        """End the threads when their last call has ended. Afterwards `run` raises RuntimeError."""
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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
