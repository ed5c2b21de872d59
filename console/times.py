"""Times as people write and read them: moments such as 2026-03-01T14:05:00, durations such as 90s or 30d."""

import re
from datetime import UTC, datetime

from schemas.errors import Code, ServiceError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,12})([smhd]?)")


def moment(option: str, text: str | None) -> datetime | None:
    """A time as people write it; without a zone it is UTC, as the tables show it.

    Raises `invalid_request` that names `option`.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"{option} {text}: write a date and time such as 2026-03-01T14:05:00 or 2026-03-01T16:05+02:00",
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def seconds(option: str, text: str) -> int:
    """A duration in seconds: a plain number of them, or with the unit s, m, h or d.

    Raises `invalid_request` that names `option`.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"{option} {text}: write a duration in seconds, or with its unit: 90s, 15m, 12h, 30d",
        )
    return int(match[1]) * _UNITS[match[2] or "s"]


def spelled(duration: int) -> str:
    """`duration`, in seconds, in the largest unit that divides it: what `seconds` reads back."""
    for unit in ("d", "h", "m"):
        if duration and duration % _UNITS[unit] == 0:
            return f"{duration // _UNITS[unit]}{unit}"
    return f"{duration}s"
