"""History as event messages: consecutive rows of one network, in as few bodies as will hold them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, inet_ntop
from typing import Any
from uuid import UUID

import structlog
from pydantic_core import to_json

from allocator.store.relaying import FIELDS
from allocator.tables import stored
from schemas.message import MAX_BODY_BYTES

PAGE_ROWS = 200
"""The most rows in one message."""

_ENVELOPE_BYTES = 256
_ROOM_BYTES = MAX_BODY_BYTES - _ENVELOPE_BYTES
_V4_PREFIX = stored(IPv4Address(0))[:12]
_NO_DETAILS = "{}"

log = structlog.get_logger("moorage.allocator")


def pages(network: str, after: int, rows: Sequence[Sequence[Any]]) -> Iterator[bytes]:
    """The bodies (`schemas.history.Events`) that carry `rows`, in order; `rows` are as `FIELDS` says.

    `after` is the seq that precedes the first row. A row that cannot be written, or is too large for a
    message, goes as what can be said of it: none ever stops those behind it.
    """
    held: list[bytes] = []
    size, last = 0, after
    for row in rows:
        body = _encoded(network, row)
        if len(held) == PAGE_ROWS or size + len(body) > _ROOM_BYTES:
            yield _page(network, after, held)
            after, held, size = last, [], 0
        held.append(body)
        size += len(body) + 1
        last = row[0]
    if held:
        yield _page(network, after, held)


def _page(network: str, after: int, rows: Sequence[bytes]) -> bytes:
    head = to_json({"network": network, "after": after})
    return head[:-1] + b',"rows":[' + b",".join(rows) + b"]}"


def _encoded(network: str, row: Sequence[Any]) -> bytes:
    try:
        body = _encode(network, row)
        if len(body) <= _ROOM_BYTES:
            return body
        why = f"{len(body)} bytes are too many for a message"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    log.warning("event cut short", network=network, seq=row[0], reason=why)
    return _cut_short(network, row)


def _encode(network: str, row: Sequence[Any]) -> bytes:
    """One row as JSON. Written out by hand: this runs once for every change of every address."""
    said = {name: value for name, value in zip(FIELDS, row, strict=True) if value is not None}
    said["network"] = network
    if "address" in said:
        said["address"] = _address(said["address"])
    if "attachment_id" in said:
        said["attachment_id"] = _uuid(said["attachment_id"])
    if said["details"] == _NO_DETAILS:
        del said["details"]
    else:
        said["details"] = json.loads(said["details"])
    return to_json(said)


def _address(raw: bytes) -> str:
    return inet_ntop(AF_INET, raw[12:]) if raw.startswith(_V4_PREFIX) else str(IPv6Address(raw))


def _uuid(raw: bytes) -> str:
    return str(UUID(bytes=raw))


_READ: Mapping[str, Callable[[Any], Any]] = {"address": _address, "attachment_id": _uuid}


def _cut_short(network: str, row: Sequence[Any]) -> bytes:
    """Every field that can be written, but for the details: those are in `history.list`."""
    said: dict[str, Any] = {"network": network, "details": {"omitted": True}}
    for name, value in zip(FIELDS, row, strict=True):
        if value is not None and name != "details":
            with suppress(Exception):
                shown = _READ[name](value) if name in _READ else value
                to_json(shown)
                said[name] = shown
    return to_json(said)
