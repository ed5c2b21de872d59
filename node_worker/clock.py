"""The database's time as this node knows it, carried on by a clock of this node that never stops or jumps."""

from collections.abc import Callable
from datetime import datetime, timedelta
from time import CLOCK_BOOTTIME, clock_gettime


def boottime() -> float:
    """Seconds since this machine booted. Unlike `time.monotonic` it counts those spent suspended."""
    return clock_gettime(CLOCK_BOOTTIME)


class DatabaseClock:
    """Database time since the last answer that told it; never ahead of it.

    An answer counts as told at the moment it arrived, so a deadline made from this clock passes early by at
    most the time the answer took, and never late (DESIGN section 4, deadline). The node's wall clock is not
    looked at.
    """

    def __init__(self, now: Callable[[], float] = boottime) -> None:
        self._now = now
        self._told: tuple[datetime, float] | None = None

    @property
    def known(self) -> bool:
        """Whether any answer told the time yet."""
        return self._told is not None

    def tell(self, database_time: datetime) -> None:
        """Note the time that an answer carried, just now."""
        self._told = (database_time, self._now())

    def after(self, seconds: float) -> datetime | None:
        """The database's time `seconds` from now; None before any answer told it."""
        if self._told is None:
            return None
        database_time, then = self._told
        return database_time + timedelta(seconds=self._now() - then + seconds)
