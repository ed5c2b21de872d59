"""What becomes of the COMMIT of one transaction, among all those that an allocator sends."""

import threading
from collections.abc import Callable

from tests.integration.sql_proxy import Fault

DONE_IN_SILENCE = Fault("it is done, and nobody is told", arrives=True, done=True, silent=True)


class CommitOf:
    """Meets the COMMIT of the transaction that writes of an owner."""

    def __init__(self, owner: str, fault: Fault | None, act: Callable[[], None] = lambda: None) -> None:
        """It is passed on where there is no `fault`, after `act` all the same."""
        self._owner, self._fault, self._act = owner, fault, act
        self._connection: int | None = None
        self.met = threading.Event()

    def __call__(self, query: str) -> Fault | None:
        if self._owner in query and not query.startswith("SELECT"):
            self._connection = threading.get_ident()  # a connection is a thread of the proxy
        if query != "COMMIT" or self._connection != threading.get_ident() or self.met.is_set():
            return None
        self._act()
        self.met.set()
        return self._fault
