"""A message that nobody could serve, as it is kept for people: body untouched, the story in headers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aio_pika import DeliveryMode, Message

from broker.codec import VERSION_HEADER
from broker.dead_letters import header
from broker.frames import Arrived
from schemas.errors import ServiceError
from schemas.requests import REPLAYERS, sender

_REASON_LENGTH = 500


def dead_letter(message: Arrived, error: ServiceError) -> Message:
    """`message` ready for `moorage.dead`: who sent it where, why it died, since when and how often.

    The sender travels in a header, because the broker takes no foreign `user_id`. Headers that are not ours
    stay behind: RabbitMQ 3 acts on an `x-death` that it is given, and what a stranger wrote may be longer
    than a frame. The reply queue stays behind too: nobody waits any more when the letter is replayed.
    """
    return Message(
        message.body,
        headers=_headers(message, error, datetime.now(UTC)),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        type=message.type,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        timestamp=message.timestamp,
        app_id=message.app_id,
    )


def first_sender(message: Arrived) -> str | None:
    """Who sent it before an operator replayed it; None where this is no replay."""
    if header.REPLAY not in message.headers:
        return None  # nearly every message
    known = sender(message.user_id or "")
    original = message.headers.get(header.SENDER)
    trusted = known is not None and known[0] in REPLAYERS
    return original if trusted and isinstance(original, str) else None


def _headers(message: Arrived, error: ServiceError, now: datetime) -> dict[str, Any]:
    died = now.isoformat(timespec="milliseconds")
    first = first_sender(message)
    headers: dict[str, Any] = {
        header.REASON: error.message[:_REASON_LENGTH],
        header.CODE: str(error.code),
        header.SENDER: (message.user_id or "") if first is None else first,
        header.ROUTING_KEY: message.routing_key or "",
        header.FIRST_DEATH: died,
        header.LAST_DEATH: died,
        header.DEATHS: 1,
    }
    if first is not None:  # what anybody else says of earlier deaths counts for nothing
        headers[header.FIRST_DEATH] = _first_death(message.headers) or died
        headers[header.DEATHS] = _deaths(message.headers) + 1
        headers[header.REPLAY] = str(message.headers[header.REPLAY])[:64]
    version = message.headers.get(VERSION_HEADER)
    if isinstance(version, int):
        headers[VERSION_HEADER] = version
    return headers


def _first_death(headers: Mapping[str, Any]) -> str | None:
    known = headers.get(header.FIRST_DEATH)
    return known if isinstance(known, str) and len(known) <= 40 else None


def _deaths(headers: Mapping[str, Any]) -> int:
    known = headers.get(header.DEATHS)
    return known if type(known) is int and 0 < known < 1_000_000 else 0
