"""One thread that does what it is given, one thing after another."""

import threading
from collections import deque
from collections.abc import Callable

from bench.soak.ledger import Ledger


class Actor:
    """Work for different actors goes on side by side."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self.name = name
        self._ledger = ledger
        self._given: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._done = 0
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def give(self, work: Callable[[], None]) -> None:
        """Have `work` done after all that was given before."""
        with self._changed:
            self._given.append(work)
            self._changed.notify_all()

    def wait(self, limit_s: float) -> bool:
        """Whether everything gets done, each thing within `limit_s` seconds of now or the last one."""
        with self._changed:
            while self._given or self._busy:
                done = self._done
                if not self._changed.wait_for(lambda: self._done > done, limit_s):  # noqa: B023
                    return False
            return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._given))
                work, self._busy = self._given.popleft(), True
            with self._ledger.blaming(self.name):
                work()
            with self._changed:
                self._busy = False
                self._done += 1
                self._changed.notify_all()
