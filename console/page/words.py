"""How pages say things: times, counts, shares, ranges. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.errors import ErrorBody, ServiceError

_SHORT_ID = 12

STATES: Mapping[str, tuple[str, str]] = {
    "attached": ("●", "attached: a pod has it"),
    "waiting": ("◐", "waiting: kept for its owner"),
    "cooling": ("◌", "cooling: freed a moment ago"),
    "quarantined": ("✕", "conflict: somebody else was seen to use it"),
    "reserved": ("▪", "reserved: not handed out"),
    "free": ("·", "free"),
}
"""Glyph and meaning of each state of an address, in the order of the legend: told apart without colour."""

NETWORK_STATES: Mapping[str, str] = {
    "creating": "◔",
    "active": "●",
    "failed": "✕",
    "deleting": "◕",
    "deleted": "○",
}
NODE_STATES: Mapping[str, str] = {
    "ready": "●",
    "lost": "?",
    "fenced": "✕",
    "pending": "◔",
    "error": "✕",
    "removed": "○",
}


def moment(at: datetime | None) -> str:
    """A time to the second, in UTC."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def machine_time(at: datetime) -> str:
    """A time for `<time datetime>`."""
    return at.astimezone(UTC).isoformat()


def number(value: Any) -> str:
    """A whole number with blanks between thousands, or as a power where it is astronomic."""
    count = int(value)
    if count >= 10**12:
        return f"≈ 10^{len(str(count)) - 1}"
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(part: Any, whole: Any) -> str:
    """A share that neither hides what is there nor what is missing behind a rounded 0 or 100."""
    some, all_of_it = int(part), int(whole)
    if not all_of_it:
        return "0 %"
    share = 100 * some / all_of_it
    if 0 < share < 1:
        return "<1 %"
    if 99 < share < 100:
        return ">99 %"
    return f"{share:.0f} %"


def tenths(part: Any, whole: Any) -> int:
    """A share in tenths, 0 to 10, with something for what is there at all: a class of the style sheet."""
    some, all_of_it = int(part), int(whole)
    if not some or not all_of_it:
        return 0
    return min(10, max(1, round(10 * some / all_of_it)))


def listed(values: Sequence[Any], most: int = 6) -> str:
    """The first few of many."""
    shown = ", ".join(str(value) for value in values[:most])
    more = len(values) - most
    return f"{shown} and {number(more)} more" if more > 0 else shown


def duration(seconds: int | None) -> str:
    """Seconds in the largest unit that they fill; for ever where there is no end."""
    if seconds is None:
        return "for ever"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def shortened(letter_id: str) -> str:
    """As much of a dead letter's id as tables show."""
    return letter_id if len(letter_id) <= _SHORT_ID + 1 else f"{letter_id[:_SHORT_ID]}…"


def told(value: Any) -> str:
    """A value of any shape on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def is_time(value: Any) -> bool:
    """Whether it is to be shown as a time."""
    return isinstance(value, datetime)


def in_error(error: ServiceError | ErrorBody, name: str) -> list[Mapping[str, Any]]:
    """The rows that an error names, such as `holders`; what is of another shape is left out."""
    value = error.fields.get(name)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [row for row in value if isinstance(row, Mapping)]


def node_error(row: Mapping[str, Any]) -> str:
    """What a node said that failed, in one line."""
    error = row.get("error")
    if not isinstance(error, Mapping):
        return "-"
    return f"{error.get('message', '')} ({error.get('code', 'unknown')})"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "moment": moment,
    "machine_time": machine_time,
    "number": number,
    "listed": listed,
    "duration": duration,
    "shortened": shortened,
    "told": told,
    "is_time": is_time,
    "node_error": node_error,
}
GLOBALS: Mapping[str, Any] = {
    "STATES": STATES,
    "NETWORK_STATES": NETWORK_STATES,
    "NODE_STATES": NODE_STATES,
    "percent": percent,
    "tenths": tenths,
    "in_error": in_error,
}
