"""Whether something is quick enough for an event loop to wait for it, instead of a thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

_QUICK_S = 0.005
_PATIENCE_S = 10.0
_WEIGHT = 0.2
"""Of the last attempt, among those before it: one that is slow by chance does not count for much."""


class Haste:
    """Advisable while attempts are quick, and once more some time after they were not."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._usual_s = 0.0
        self._last = 0.0

    @property
    def advisable(self) -> bool:
        """Whether to try."""
        if self._usual_s > _QUICK_S and self._clock() - self._last > _PATIENCE_S:
            self._usual_s = 0.0
        return self._usual_s <= _QUICK_S

    @contextmanager
    def timed(self) -> Iterator[None]:
        """An attempt happens in here."""
        begun = self._clock()
        try:
            yield
        finally:
            self._last = self._clock()
            self._usual_s += _WEIGHT * (self._last - begun - self._usual_s)
