"""The AMQP frames that come and go by the thousand, read and written without detours (AMQP 0-9-1, 2.3, 4.2).

aio-pika, aiormq and pamqp take some 300 microseconds to bring one delivery to a callback and one publish to
the socket. All other frames are theirs; `tests/unit/test_broker_frames.py` holds these to what pamqp says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct
from types import MappingProxyType
from typing import Any

from pamqp import decode, encode

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
"""The types of frames."""
HEAD = Struct(">BHI")
"""What each frame begins with: type, channel and size."""
END = b"\xce"
DELIVER = b"\x00\x3c\x00\x3c"
"""Class and method of `basic.deliver`."""
RETURN, ACK, NACK = b"\x00\x3c\x00\x32", b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
"""The same of `basic.return`, `basic.ack` and `basic.nack`: what becomes of a message that was published."""
BLOCKED, UNBLOCKED = b"\x00\x0a\x00\x3c", b"\x00\x0a\x00\x3d"
"""The same of `connection.blocked` and `connection.unblocked` (RabbitMQ's extension)."""
A_HEARTBEAT = HEAD.pack(HEARTBEAT, 0, 0) + END

_ACK = Struct(">HHQB")
_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"  # basic.publish and a reserved field
_DEFAULT_EXCHANGE = b"\x00"
_MANDATORY = b"\x01"
_SIZE = Struct(">HHQH")  # class, weight, size of the body, and which properties there are
_LONG = Struct(">Q")
_LENGTH = Struct(">I")
_REPLY_PROPERTIES = 0x8000 | 0x1000 | 0x0400 | 0x0020  # content_type, delivery_mode, correlation_id, type
_REQUEST_PROPERTIES = 0xB6B0  # those of `Outgoing`, and delivery_mode
_NOT_PERSISTENT, _PERSISTENT = b"\x01", b"\x02"
_FRAME_OVERHEAD = 8
_CACHED_BYTES = 256

NO_HEADERS: Mapping[str, Any] = MappingProxyType({})

# In the order in which they follow the flags, the highest bit first.
_PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)


@dataclass(slots=True)
class Arrived:
    """One message that a consumer was given. `readable` is False where its properties are no proper text.

    `arrived_at` is when, in seconds of the monotonic clock.
    """

    body: bytes = b""
    delivery_tag: int = 0
    redelivered: bool = False
    routing_key: str = ""
    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = field(default_factory=lambda: NO_HEADERS)
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: datetime | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None
    readable: bool = True
    arrived_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One persistent message for an exchange. Without `reply_to` nobody waits for an answer."""

    body: bytes
    content_type: str
    headers: Mapping[str, Any]
    correlation_id: str
    reply_to: str | None
    message_id: str
    type: str
    user_id: str


def body_size(header: bytes) -> int:
    """How many bytes of body follow this content header."""
    size: int = _SIZE.unpack_from(header)[2]
    return size


def read_delivery(method: bytes, header: bytes, body: bytes) -> Arrived:
    """The message in the payloads of its frames. Whatever a sender wrote there, this raises nothing."""
    try:
        return _read(method, header, body, "strict")
    except Exception:
        # What is no UTF-8 is left out, and the rest still tells whose message it was.
        try:
            arrived = _read(method, header, body, "ignore")
        except Exception:
            arrived = _read(method, _SIZE.pack(60, 0, len(body), 0), body, "ignore")
        arrived.readable = False
        return arrived


def read_message_id(header: bytes) -> str | None:
    """The property `message_id` of a message of ours that came back."""
    try:
        found: str | None = _read_properties(header, _SIZE.unpack_from(header)[3], "strict").get("message_id")
    except Exception:
        return None
    return found


def _read(method: bytes, header: bytes, body: bytes, errors: str) -> Arrived:
    at = 5 + method[4]  # behind the consumer's tag
    tag: int = _LONG.unpack_from(method, at)[0]
    key = at + 10 + method[at + 9]  # behind the exchange's name
    flags = _SIZE.unpack_from(header)[3]
    return Arrived(
        body,
        tag,
        method[at + 8] != 0,
        method[key + 1 : key + 1 + method[key]].decode("utf-8", errors),
        **_read_properties(header, flags, errors),
    )


def _read_properties(header: bytes, flags: int, errors: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = _SIZE.size
    for name in _present(flags):
        if name == "headers":
            end = at + 4 + _LENGTH.unpack_from(header, at)[0]
            found[name] = _read_headers(header[at:end])
        elif name in ("delivery_mode", "priority"):
            end = at + 1
            found[name] = header[at]
        elif name == "timestamp":
            end = at + 8
            found[name] = datetime.fromtimestamp(_LONG.unpack_from(header, at)[0], UTC)
        else:
            end = at + 1 + header[at]
            found[name] = header[at + 1 : end].decode("utf-8", errors)
        at = end
    return found


@lru_cache(maxsize=1024)
def _present(flags: int) -> tuple[str, ...]:
    if flags & 0b11:
        raise ValueError("there are properties that AMQP 0-9-1 does not know")
    return tuple(name for number, name in enumerate(_PROPERTIES) if flags & (0x8000 >> number))


def _read_headers(raw: bytes) -> Mapping[str, Any]:
    # Most messages carry the very same few bytes here.
    return _known_headers(raw) if len(raw) <= _CACHED_BYTES else _parse_headers(raw)


def _parse_headers(raw: bytes) -> Mapping[str, Any]:
    return MappingProxyType(decode.field_table(raw)[1])


_known_headers = lru_cache(maxsize=256)(_parse_headers)


def ack(channel: int, delivery_tag: int, *, multiple: bool = True) -> bytes:
    """The frame that acknowledges every delivery up to this one, or this one alone."""
    return _frame(METHOD, channel, _ACK.pack(60, 80, delivery_tag, multiple))


def publish(
    channel: int,
    key: str,
    body: bytes,
    *,
    content_type: str,
    correlation_id: str | None,
    kind: str | None,
    frame_max: int,
) -> bytes:
    """The frames of one transient message for the default exchange; `kind` is its property `type`."""
    header = b"".join(
        (
            _SIZE.pack(60, 0, len(body), _REPLY_PROPERTIES),
            _short(content_type),
            _NOT_PERSISTENT,
            _short(correlation_id or ""),
            _short(kind or ""),
        )
    )
    method = _PUBLISH + _DEFAULT_EXCHANGE + _short(key) + b"\x00"
    return _frames(channel, method, header, body, frame_max)


def send(channel: int, exchange: str, key: str, message: Outgoing, *, frame_max: int) -> bytes:
    """The frames of one message that the broker is to return where no queue takes it (`mandatory`)."""
    flags = _REQUEST_PROPERTIES if message.reply_to is not None else _REQUEST_PROPERTIES & ~0x0200
    header = b"".join(
        (
            _SIZE.pack(60, 0, len(message.body), flags),
            _short(message.content_type),
            _table(tuple(message.headers.items())),
            _PERSISTENT,
            _short(message.correlation_id),
            _short(message.reply_to) if message.reply_to is not None else b"",
            _short(message.message_id),
            _short(message.type),
            _short(message.user_id),
        )
    )
    method = _PUBLISH + _short(exchange) + _short(key) + _MANDATORY
    return _frames(channel, method, header, message.body, frame_max)


@lru_cache(maxsize=64)
def _table(items: tuple[tuple[str, Any], ...]) -> bytes:
    return encode.field_table(dict(items))


def read_confirm(method: bytes) -> tuple[int, bool]:
    """Of an ack or nack: the number of a publish, and whether it is about all before it, too."""
    tag: int = _LONG.unpack_from(method, 4)[0]
    return tag, bool(method[12] & 1)


def _frames(channel: int, method: bytes, header: bytes, body: bytes, frame_max: int) -> bytes:
    most = frame_max - _FRAME_OVERHEAD
    return b"".join(
        (
            _frame(METHOD, channel, method),
            _frame(HEADER, channel, header),
            *(_frame(BODY, channel, body[start : start + most]) for start in range(0, len(body), most)),
        )
    )


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return HEAD.pack(kind, channel, len(payload)) + payload + END


def _short(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"a short string of {len(encoded)} bytes: AMQP allows 255")
    return bytes((len(encoded),)) + encoded
