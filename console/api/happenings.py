"""What happens, as it happens: one reader of the console's event queue, and everybody who listens here."""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from schemas.errors import Code, ServiceError
from schemas.history import Events, HistoryRow

_REMEMBERED = 2000
_BEHIND = 1000
"""How many rows a listener may be behind; then it is told that it missed some, and looks for itself."""
_MOST_LISTENERS = 500
_MOST_OF_ONE = 20


class Missed:
    """Rows are missing here: what is shown has to be read anew."""


class Listener:
    """One reader's rows, oldest first."""

    def __init__(self) -> None:
        self._rows: deque[HistoryRow] = deque()
        self._missed = False
        self._news = asyncio.Event()

    def put(self, row: HistoryRow) -> None:
        """Keep a row until it is read."""
        if len(self._rows) >= _BEHIND:
            self._rows.clear()
            self._missed = True
        self._rows.append(row)
        self._news.set()

    def miss(self) -> None:
        """Note that rows are missing."""
        self._missed = True
        self._news.set()

    async def next(self, timeout_s: float) -> HistoryRow | Missed | None:
        """The next row, or that some are missing; None where nothing happened for so long."""
        if not self._rows and not self._missed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return None
        if self._missed:
            self._missed = False
            found: HistoryRow | Missed = Missed()
        else:
            found = self._rows.popleft()
        if not self._rows:
            self._news.clear()
        return found


class Happenings:
    """Tells each row to all who listen, and to those who were away for a moment what they missed."""

    def __init__(self) -> None:
        self._past: deque[HistoryRow] = deque(maxlen=_REMEMBERED)
        self._told = 0
        self._run = secrets.token_hex(4)
        self._listeners: set[Listener] = set()
        self._of: Counter[str] = Counter()

    @property
    def latest(self) -> str:
        """What `listening` takes to tell what happens from now on. To be read before what is shown is asked.

        A number of this process: it says nothing of rows that whoever reads it may not see.
        """
        return f"{self._run}-{self._told}"

    async def run(self, source: Callable[[], AsyncIterator[Events]]) -> None:
        """Read events until cancelled."""
        last: dict[str, int] = {}
        async for events in source():
            known = last.get(events.network)
            if known is not None and events.after is not None and events.after > known:
                for listener in self._listeners:
                    listener.miss()
            for row in events.rows:
                self.tell(row)
            if events.rows:
                last[events.network] = events.rows[-1].seq

    def tell(self, row: HistoryRow) -> None:
        """A row that is new."""
        self._past.append(row)
        self._told += 1
        for listener in self._listeners:
            listener.put(row)

    @contextmanager
    def listening(self, after: str | None = None, of: str | None = None) -> Iterator[Listener]:
        """A listener while the block runs; `after` is the id of the last row it has seen.

        Raises `unavailable` where too many listen, `too_many_requests` where `of` itself listens too often.
        """
        if of is not None and self._of[of] >= _MOST_OF_ONE:
            raise ServiceError(
                "too_many_requests",
                f"{of} listens {_MOST_OF_ONE} times already: end a stream that it does not need",
            )
        if len(self._listeners) >= _MOST_LISTENERS:
            raise ServiceError(Code.UNAVAILABLE, "too many listen already: close a page that you do not need")
        listener = Listener()
        self._resume(listener, after)
        self._listeners.add(listener)
        name = of or ""
        self._of[name] += 1
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._of[name] -= 1
            if not self._of[name]:
                del self._of[name]

    def _resume(self, listener: Listener, after: str | None) -> None:
        if after is None:
            return
        missing = self._missing(after)
        if missing is None:
            listener.miss()
            return
        for row in missing:
            listener.put(row)

    def _missing(self, after: str) -> list[HistoryRow] | None:
        """What was told after a row, or after what `latest` was; None where that is not remembered."""
        past = list(self._past)
        run, _, told = after.rpartition("-")
        if run == self._run and told.isascii() and told.isdigit():
            count = self._told - int(told)
            return past[len(past) - count :] if 0 <= count <= len(past) else None
        ids = [row_id(row) for row in past]
        return past[ids.index(after) + 1 :] if after in ids else None


def row_id(row: HistoryRow) -> str:
    """What names a row among all networks' rows: NETWORK:SEQ."""
    return f"{row.network}:{row.seq}"
