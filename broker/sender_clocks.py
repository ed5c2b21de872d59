"""When a message was sent, by our clock: senders stamp it with theirs, and clocks differ.

A node's heartbeats wait nowhere for long: their queue drops what is older than its TTL. So the shortest time
that any of them seemed to take lately is, but for that little, how far the node's clock is behind ours, or
ahead. Of senders without heartbeats nothing is known, and their clocks are taken to be right.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

_LATELY_S = 600.0
"""How long the shortest time counts, at least: clocks drift, and are set."""
_SENDERS = 10_000


class SenderClocks:
    """What the messages of each user told of its clock. Not for several threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: OrderedDict[str, _Shortest] = OrderedDict()

    def heartbeat(self, user: str, sent: float, arrived: float) -> None:
        """Note when a message of a queue with a short TTL was sent, by its sender's clock, and arrived here.

        Both in seconds since the epoch.
        """
        known = self._known.get(user)
        if known is None:
            known = self._known[user] = _Shortest(self._now())
            if len(self._known) > _SENDERS:
                self._known.popitem(last=False)
        known.note(arrived - sent, self._now())

    def sent(self, user: str, sent: float | None, arrived: float) -> float:
        """When a message was sent, by our clock; never after it arrived. What bears no time came at once."""
        if sent is None:
            return arrived
        known = self._known.get(user)
        return min(arrived, sent + (known.value if known is not None else 0.0))


class _Shortest:
    """The least of the values of this and the last period."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._last = self._present = float("inf")

    def note(self, value: float, now: float) -> None:
        if now - self._since > _LATELY_S:
            self._since, self._last, self._present = now, self._present, float("inf")
        self._present = min(self._present, value)

    @property
    def value(self) -> float:
        return min(self._last, self._present)
