"""When a loop goes on: a bell that others ring, and delays that grow while nothing succeeds."""

import asyncio
import random


class Bell:
    """Wakes one waiting loop. Rung while nobody waits, it is heard at the next wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the loop, now or at its next wait."""
        self._event.set()

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait for the bell, at most `timeout_s` seconds if given; whether it was rung."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Backoff:
    """Delays in seconds that double from `first` to `most`, each shortened by up to a half at random."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._next = first

    def delay(self) -> float:
        """How long to wait now; the next one is twice as long."""
        chosen = self._next * random.uniform(0.5, 1.0)  # noqa: S311  spreads load, guards nothing
        self._next = min(self._most, self._next * 2)
        return chosen

    def reset(self) -> None:
        """Something succeeded: start with the first delay again."""
        self._next = self._first
