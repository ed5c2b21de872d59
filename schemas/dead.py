"""What is asked about dead letters: what a replay would do, and who replayed or discarded which."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from schemas.message import Administrative, Done, Message, Query

AuditEvent = Literal["dead.replayed", "dead.discarded", "dead.imported"]
Prospect = Literal["apply", "no-op", "stale", "failing"]

AUDITED_AT_ONCE = 50
"""At most so many letters in one `audit.record`: its history row stays readable."""


class AuditedLetter(Message):
    """One dead letter as history names it."""

    id: str = Field(max_length=255)
    request: str | None = Field(default=None, max_length=64)
    network: str | None = Field(default=None, max_length=255)
    sender: str | None = Field(default=None, max_length=255)
    code: str | None = Field(default=None, max_length=64)
    deaths: int = Field(default=1, ge=0)


class AuditRecord(Administrative):
    """Write down what an operator does with dead letters, before it is done.

    The row is part of the history of `_system`.
    """

    NAME: ClassVar[str] = "audit.record"
    ANSWER: ClassVar[type[Message]] = Done

    event: AuditEvent
    letters: tuple[AuditedLetter, ...] = Field(min_length=1, max_length=AUDITED_AT_ONCE)
    details: dict[str, Any] = Field(default_factory=dict, max_length=16)


class ReplayPreviewed(Message):
    """What a request would come to now.

    `apply`: it would change something. `no-op`: it would be a success that changes nothing. `stale`: its time
    is over, it would be dropped. `failing`: it would be refused again, and why.
    """

    prospect: Prospect
    reason: str | None = None
    code: str | None = None


class ReplayPreview(Query):
    """Carry a request out as its sender asked it, see what comes of it, and take it all back.

    `body` is the request's body as it lies in the dead letter, `sender` the user that sent it first.
    """

    NAME: ClassVar[str] = "replay.preview"
    ANSWER: ClassVar[type[Message]] = ReplayPreviewed

    request: str = Field(max_length=64)
    sender: str = Field(max_length=255)
    body: str
    version: int = Field(default=1, description="the schema version the letter names")
