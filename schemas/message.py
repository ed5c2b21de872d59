"""What all messages have in common: frozen models, a name, a version and a place to be sent to."""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import ErrorBody
from schemas.fields import RequestId

MAX_BODY_BYTES = 64 * 1024
"""Bodies over this size are refused (DESIGN section 4)."""


class Message(BaseModel):
    """A frozen model. Answers and events ignore unknown fields, so that newer senders may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Request(Message):
    """Something asked of the allocator.

    Unknown fields are refused by `read`, at any depth: a mistyped optional field must not be dropped in
    silence. A new field therefore comes with a new `VERSION`, and the allocator reads the older ones too.
    """

    NAME: ClassVar[str]
    VERSION: ClassVar[int] = 1
    ANSWER: ClassVar[type[Message]]

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The request that `body` holds. Raises pydantic's ValidationError."""
        return cls.model_validate_json(body, extra="forbid")

    @property
    def partition_key(self) -> str:
        """The name whose requests must stay in order: the network's, or the node's where there is none."""
        key = getattr(self, "network", None) or getattr(self, "node", None)
        return str(key) if key else ""

    @property
    def traced_as(self) -> str | None:
        """What logs of all processes name it by: the attachment it is about, where it is about one."""
        attachment_id = getattr(self, "attachment_id", None)
        return str(attachment_id) if attachment_id is not None else None


class Administrative(Request):
    """A change that people make. `request_id` names the attempt: repeating it gives the stored answer.

    `actor` is the person it is made for, as the sender claims: history keeps it apart from the sender.
    """

    request_id: RequestId
    actor: str | None = Field(default=None, max_length=255)


class Query(Request):
    """A read. It changes nothing, waits behind no write and is never dead-lettered."""

    @property
    def partition_key(self) -> str:
        """Queries have a queue of their own and no partition."""
        return ""


class Page(Message):
    """One page of a long answer. `next` goes into the next query's `after`; None at the end."""

    next: str | None = None


class Done(Message):
    """The answer of a request that has nothing to tell but that it was applied."""


class Answer(Message):
    """The body of every reply: a result or an error, never both."""

    result: dict[str, Any] | None = None
    error: ErrorBody | None = None


PAGE_LIMIT = Field(default=100, ge=1, le=500)
