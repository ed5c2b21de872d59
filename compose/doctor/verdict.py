"""What a check says: how it stands, what was found, and what to do next."""

from dataclasses import dataclass
from typing import Literal

from schemas.message import Message

State = Literal["ok", "warn", "fail", "skip"]


class Finding(Message):
    """One thing is `ok`, needs a look (`warn`), is broken (`fail`) or cannot be seen from here (`skip`)."""

    check: str
    state: State
    found: str
    advice: str | None = None


class Report(Message):
    """All findings. `ok` says that none is a failure."""

    ok: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of one thing. `part` tells things of one check apart."""

    state: State
    found: str
    advice: str | None = None
    part: str = ""


class Skipped(Exception):
    """This cannot be looked at from here; the text says what it would take."""


def ok(found: str) -> Verdict:
    """Nothing to do."""
    return Verdict("ok", found)


def warn(found: str, advice: str) -> Verdict:
    """Something that somebody should look at."""
    return Verdict("warn", found, advice)


def fail(found: str, advice: str | None = None) -> Verdict:
    """Something that keeps pods from getting, or from keeping, their addresses."""
    return Verdict("fail", found, advice)


def counted(number: int, thing: str) -> str:
    """Such as `1 pod` and `2 pods`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def listed(things: list[str], most: int = 5) -> str:
    """The first `most` of them, and how many more there are."""
    more = f"; and {len(things) - most} more" if len(things) > most else ""
    return "; ".join(things[:most]) + more
