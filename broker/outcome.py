"""What a service gets from a consumer, what it gives back, and what else may become of a message."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.errors import ServiceError
from schemas.message import Message, Request


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that was read and whose sender the broker vouches for.

    `reply_to` is None where nobody waits for an answer.
    """

    request: Request
    user_id: str
    reply_to: str | None
    correlation_id: str | None
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Reply:
    """The request was applied; this is its answer."""

    message: Message


@dataclass(frozen=True, slots=True)
class Refused:
    """A business "no": the request was understood and nothing was changed."""

    error: ServiceError


@dataclass(frozen=True, slots=True)
class Deferred:
    """A job took the request over and answers it later."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nobody waits for an answer any more, and nothing was changed."""

    reason: str


DEFERRED = Deferred()

Outcome = Reply | Refused | Deferred | Dropped


@dataclass(frozen=True, slots=True)
class Broken:
    """The message is no request that this sender may make: it would be none the next time either."""

    error: ServiceError


@dataclass(frozen=True, slots=True)
class Failed:
    """This one request failed, again and again, in a way that nobody expected."""

    error: ServiceError


Verdict = Outcome | Broken | Failed

Service = Callable[[Sequence[Delivery]], Sequence[Outcome]]
"""Applies a batch in one transaction and returns one outcome for each delivery, in order.

It is plain sync code; the consumer runs it in a thread. Called with an empty batch it changes nothing and
only shows whether it could work. Raises `Unavailable`; any other exception means that nothing of the batch
was applied.
"""

AtOnce = Callable[[Sequence[Delivery]], Sequence[Outcome] | None]
"""As a service, for what takes a moment: it is called on the event loop, for a thread would take longer to
wake up. None where it is not to be had so, and nothing was done. Raises nothing.
"""

Authorize = Callable[[Delivery], None]
"""Raises `sender_forbidden` where the sender may not ask this."""


class Unavailable(Exception):
    """What the service needs (its database) is away. It is asked again later, for as long as that takes."""
