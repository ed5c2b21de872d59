"""How many requests of one client wait at a time in a partition, which serves them in turn.

Whoever asks for thousands at once would fill the broker's queue with them. They would be answered no sooner,
and everybody else, and every query, would be answered later. So a client asks for more at a time while
answers come soon, and for less while they do not, as TCP does (RFC 5681).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST, _LEAST, _MOST = 16, 8, 64
_SLOW_S = 0.1


class Pacing:
    """The requests of one client to one partition."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._size = _FIRST
        self._free = asyncio.Semaphore(_FIRST)

    @property
    def size(self) -> int:
        """How many may wait for their answers now."""
        return self._size

    async def ask(self, asking: Callable[[], Awaitable[T]]) -> T:
        """What `asking` returns or raises, begun when it is its turn. It may be cancelled."""
        await self._free.acquire()
        begun = self._clock()
        try:
            answer = await asking()
        except BaseException:
            self._free.release()
            raise
        self._learn(self._clock() - begun)
        return answer

    def _learn(self, took_s: float) -> None:
        if took_s > _SLOW_S and self._size > _LEAST:
            self._size -= 1
            return
        self._free.release()
        if took_s <= _SLOW_S and self._size < _MOST:
            self._size += 1
            self._free.release()
