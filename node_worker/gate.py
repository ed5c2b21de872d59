"""Whether ADD is served: not before the node's attachments were compared with the allocator's.

Closed at start, whenever the allocator was out of reach, and from the news of a fence until the node has
cleaned up (DESIGN section 6: a node that comes back ends what is not current before it serves ADD). DEL never
asks the gate.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.errors import Code, ServiceError

_WAIT_S = 5.0


class Gate:
    """Begins closed. Every closing has a number, so that what began before it cannot undo it."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._closed = True
        self._fenced = False
        self._adding = 0
        self._news = asyncio.Event()
        self.closings = 1
        """How often it was closed. Keep it before asking the allocator, and `open` with it afterwards."""
        self.hindrance: str | None = None
        """Why it could not be opened yet."""

    def close(self, *, fenced: bool = False) -> None:
        """Hold up each ADD from now on; with `fenced`, refuse it at once, also those under way."""
        self.closings += 1
        self._closed, self._fenced = True, self._fenced or fenced
        self._changed()

    def open(self, closings: int) -> None:
        """Let ADDs pass, unless it was closed again since it had been closed `closings` times."""
        if closings == self.closings:
            self._closed, self._fenced, self.hindrance = False, False, None
            self._changed()

    def check(self) -> None:
        """Raise ServiceError `unavailable` when it is closed."""
        if self._closed:
            raise self._refusal()

    async def passed(self) -> None:
        """Wait until it is open, for at most 5 s. Raises ServiceError `unavailable`; at once when fenced."""
        try:
            async with asyncio.timeout(_WAIT_S):
                while self._closed and not self._fenced:
                    await self._news.wait()
        except TimeoutError:
            raise self._refusal() from None
        self.check()

    @asynccontextmanager
    async def adding(self) -> AsyncIterator[None]:
        """What one ADD does happens in here, its undoing too. Raises what `passed` raises."""
        await self.passed()
        self._adding += 1
        try:
            yield
        finally:
            self._adding -= 1
            self._changed()

    async def emptied(self) -> None:
        """Wait until no ADD is under way. Close it first."""
        while self._adding > 0:
            await self._news.wait()

    def _changed(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _refusal(self) -> ServiceError:
        if self._fenced:
            told = "was declared off (fenced) and ends every endpoint it had before it attaches pods again"
        else:
            told = "has yet to hear from the allocator which of its attachments still count"
        hindrance = f"; {self.hindrance}" if self.hindrance else ""
        return ServiceError(
            Code.UNAVAILABLE,
            f"node {self._node} {told}{hindrance}. It goes on by itself: try again",
            node=self._node,
        )
