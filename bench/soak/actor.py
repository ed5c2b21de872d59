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
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def give(self, work: Callable[[], None]) -> None:
        """Have `work` done after all that was given before."""
        with self._changed:
            self._given.append(work)
            self._changed.notify_all()

    def wait(self, limit_s: float) -> bool:
        """Whether everything is done, within `limit_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._given and not self._busy, limit_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._given))
                work, self._busy = self._given.popleft(), True
            with self._ledger.blaming(self.name):
                work()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
