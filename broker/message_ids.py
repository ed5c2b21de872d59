"""Ids of messages: unique for each attempt, and telling when it was made (UUID version 7, RFC 9562, 5.7).

So a message bears the time to the millisecond at no cost. The property `timestamp` has whole seconds.
"""

import time
from datetime import datetime
from os import urandom

_DIGITS = 32
_VERSION_AT = 12


def new_message_id() -> str:
    """A UUID of version 7, 32 hexadecimal digits."""
    milliseconds = time.time_ns() // 1_000_000
    rest = int.from_bytes(urandom(10), "big")
    high, low = rest >> 68, rest & (1 << 62) - 1
    return f"{(milliseconds << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low:032x}"


def sent_at(message_id: str | None, timestamp: datetime | None) -> float | None:
    """When a message was sent by its sender's clock, in seconds since the epoch; None if it does not say.

    Producers that make ids of their own may set the property `timestamp` instead.
    """
    if message_id is not None and len(message_id) == _DIGITS and message_id[_VERSION_AT] == "7":
        try:
            return int(message_id[:_VERSION_AT], 16) / 1000
        except ValueError:
            pass
    return timestamp.timestamp() if timestamp is not None else None
