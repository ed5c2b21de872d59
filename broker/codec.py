"""Requests and answers as AMQP messages, and everything that can be wrong with one."""

import binascii
import re
from base64 import b64decode
from functools import lru_cache

from aio_pika import DeliveryMode, Message
from pydantic import ValidationError

from broker.frames import Arrived, Outgoing
from broker.topology import REPLY_QUEUE, request_name, routing_key
from schemas.errors import Code, ServiceError
from schemas.message import MAX_BODY_BYTES, Answer, Request
from schemas.message import Message as Body
from schemas.requests import REQUESTS
from schemas.validation import explain

CONTENT_TYPE = "application/json"
VERSION_HEADER = "schema_version"

_REPLY_TO = re.compile(
    re.escape(REPLY_QUEUE) + r"\.([A-Za-z0-9+/]{32,128}={0,2})\.([A-Za-z0-9+/]{8,64}={0,2})"
)
# Erlang's external term format: version, NEW_PID_EXT, the node's name as an atom, and twelve bytes more.
_PID = re.compile(rb"\x83X(?:[dv]\x00(.)|w(.))(.+)", re.DOTALL)
_NODE = re.compile(rb"reply@[0-9]{1,10}")


@lru_cache(maxsize=4096)
def is_reply_queue(reply_to: str) -> bool:
    """Whether this names a caller's own reply queue in the very form that RabbitMQ (3.9 and later) writes.

    Anything else might be a queue that somebody else reads; and a name that only begins like one makes
    RabbitMQ 3.10 close the connection that publishes to it.
    """
    match = _REPLY_TO.fullmatch(reply_to)
    try:
        process = _PID.fullmatch(b64decode(match[1], validate=True)) if match else None
    except binascii.Error:
        return False
    if process is None:
        return False
    length = ord(process[1] or process[2])
    name, rest = process[3][:length], process[3][length:]
    return _NODE.fullmatch(name) is not None and len(rest) == 12


def encode_request(
    request: Request, *, user_id: str, message_id: str, correlation_id: str, reply_to: str | None
) -> Outgoing:
    """A request ready to be published. Raises `too_large`."""
    body = request.model_dump_json(exclude_none=True).encode()
    if len(body) > MAX_BODY_BYTES:
        raise _too_large(request.NAME, len(body))
    return Outgoing(
        body,
        headers={VERSION_HEADER: request.VERSION},
        content_type=CONTENT_TYPE,
        type=request.NAME,
        user_id=user_id,
        message_id=message_id,
        correlation_id=correlation_id,
        reply_to=reply_to,
    )


def decode(message: Arrived) -> Request:
    """The request in a message whose sender the broker vouches for.

    Raises `sender_forbidden`, `unknown_request`, `too_large`, `unsupported_version`, `unreadable` or
    `invalid_request`.
    """
    _check_sender(message)
    request_type = _request_type(message)
    if len(message.body) > MAX_BODY_BYTES:
        raise _too_large(request_type.NAME, len(message.body))
    _check_version(message, request_type)
    request = _read(message.body, request_type)
    expected = routing_key(request)
    if message.routing_key != expected:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"this {request.NAME} must be published with the routing key {expected}, "
            f"not {message.routing_key}: the number is crc32 of the network's name modulo the partitions",
        )
    return request


def _check_sender(message: Arrived) -> None:
    if not message.readable:
        raise ServiceError(Code.UNREADABLE, "the message's properties or its routing key are no UTF-8 text")
    if not message.user_id:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            "the message names no user: set the property user_id to the user of the AMQP connection",
        )
    if message.reply_to and not is_reply_queue(message.reply_to):
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"answers go to RabbitMQ's own reply queue alone: consume {REPLY_QUEUE} and set reply_to to it",
        )


def _request_type(message: Arrived) -> type[Request]:
    name = request_name(message.routing_key)
    request_type = REQUESTS.get(name) if name else None
    if request_type is None:
        raise ServiceError(
            Code.UNKNOWN_REQUEST,
            f"no request has the routing key {message.routing_key}; publish <partition>.NAME for "
            f"changes and query.NAME for queries, where NAME is one of {', '.join(sorted(REQUESTS))}",
        )
    if message.type and message.type != request_type.NAME:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"the message's type is {message.type} but its routing key names {request_type.NAME}: "
            "make them agree",
        )
    return request_type


def _check_version(message: Arrived, request_type: type[Request]) -> None:
    version = message.headers.get(VERSION_HEADER)
    if type(version) is int and 1 <= version <= request_type.VERSION:
        return
    raise ServiceError(
        Code.UNSUPPORTED_VERSION,
        f"{request_type.NAME} is understood in versions 1 to {request_type.VERSION}; "
        f"the header {VERSION_HEADER} says {version!r:.40}. Set it, or update the allocator",
    )


def _read(body: bytes, request_type: type[Request]) -> Request:
    try:
        return request_type.read(body)
    except ValidationError as error:
        broken = any(item["type"] == "json_invalid" for item in error.errors(include_url=False))
        code = Code.UNREADABLE if broken else Code.INVALID_REQUEST
        raise ServiceError(code, f"{request_type.NAME}: {explain(error)}") from error


def _too_large(name: str, size: int) -> ServiceError:
    return ServiceError(
        Code.TOO_LARGE,
        f"{name} has {size} bytes, more than the {MAX_BODY_BYTES} allowed: ask for less at once",
        size=size,
        limit=MAX_BODY_BYTES,
    )


def encode_answer(
    answer: Answer | Body | ServiceError, *, request: str | None, correlation_id: str | None
) -> Message:
    """The reply to a request: its result, its error, or an answer that was stored as a whole."""
    return Message(
        answer_body(answer),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.NOT_PERSISTENT,
        type=request,
        correlation_id=correlation_id,
    )


def answer_body(answer: Answer | Body | ServiceError) -> bytes:
    """The body of the reply to a request."""
    if isinstance(answer, ServiceError):
        # An error's fields may be of any type: what JSON has no word for goes as text.
        return Answer(error=answer.body()).model_dump_json(fallback=str).encode()
    if isinstance(answer, Answer):
        return answer.model_dump_json(fallback=str).encode()
    return b'{"result":' + answer.model_dump_json().encode() + b',"error":null}'


def decode_answer(body: bytes, request_type: type[Request]) -> Body:
    """The result in a reply, an instance of `request_type.ANSWER`. Raises the error that it carries."""
    try:
        answer = Answer.model_validate_json(body)
        if answer.error is None and answer.result is not None:
            return request_type.ANSWER.model_validate(answer.result)
    except ValidationError as error:
        raise ServiceError(
            Code.INTERNAL,
            f"the answer to {request_type.NAME} cannot be read: {explain(error)}. "
            "Bring this program and the allocator to the same version",
        ) from error
    if answer.error is not None:
        raise ServiceError.from_body(answer.error)
    raise ServiceError(
        Code.INTERNAL, f"the answer to {request_type.NAME} holds neither a result nor an error"
    )
