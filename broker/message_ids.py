"""Ids of messages: unique for each attempt, and telling when it was made.

So a message bears the time to the millisecond at no cost; the property `timestamp` has whole seconds. An id
of ours is a UUID of version 8 (RFC 9562, 5.8) whose last 48 bits are the milliseconds since the epoch: people
tell ids by how they begin, and that is random.
"""

import time
from collections.abc import Mapping
from datetime import datetime
from os import urandom

_DIGITS, _TIME_DIGITS, _VERSION_AT = 32, 12, 12
_TIME: Mapping[str, slice] = {"7": slice(_TIME_DIGITS), "8": slice(-_TIME_DIGITS, None)}
"""Where the time is, by version; producers may use 7, where it comes first (RFC 9562, 5.7)."""


def new_message_id() -> str:
    """Of 32 hexadecimal digits."""
    chosen = urandom(10).hex()
    milliseconds = time.time_ns() // 1_000_000
    return f"{chosen[:12]}8{chosen[12:15]}{'89ab'[int(chosen[15], 16) & 3]}{chosen[16:19]}{milliseconds:012x}"


def sent_at(message_id: str | None, timestamp: datetime | None) -> float | None:
    """When a message was sent by its sender's clock, in seconds since the epoch; None if it does not say.

    Producers that make ids of another kind may set the property `timestamp` instead.
    """
    if message_id is not None and len(message_id) == _DIGITS and message_id[_VERSION_AT] in _TIME:
        try:
            return int(message_id[_TIME[message_id[_VERSION_AT]]], 16) / 1000
        except ValueError:
            pass
    return timestamp.timestamp() if timestamp is not None else None
