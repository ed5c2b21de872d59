"""One dead letter as people see it, whoever buried it: our consumer, or RabbitMQ at the delivery limit."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from broker.codec import VERSION_HEADER
from broker.dead_letters import header
from broker.dead_letters.burial import first_sender
from broker.frames import NO_HEADERS, Arrived
from broker.topology import request_name

DELIVERY_LIMIT = "delivery_limit"
"""The code of a letter that RabbitMQ buried: whoever served it died of it again and again."""
_UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Letter:
    """What is known of it. `id` is its `message_id`, or else a digest; `sender` who sent it first."""

    id: str
    body: bytes
    routing_key: str
    request: str | None
    network: str | None
    node: str | None
    sender: str
    code: str
    reason: str
    first_death: datetime
    last_death: datetime
    deaths: int
    version: int | None = None
    replay: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str | None:
        """The body as text; None where it is none."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            return None

    @property
    def document(self) -> Any:
        """The body as JSON; None where it is none."""
        return _document(self.body)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs and for `from_json`."""
        text = self.text
        return {
            "id": self.id,
            "request": self.request,
            "network": self.network,
            "node": self.node,
            "sender": self.sender,
            "code": self.code,
            "reason": self.reason,
            "first_death": self.first_death.isoformat(),
            "last_death": self.last_death.isoformat(),
            "deaths": self.deaths,
            "routing_key": self.routing_key,
            "version": self.version,
            "replay": self.replay,
            "properties": dict(self.properties),
            **({"body": text} if text is not None else {"body_base64": base64.b64encode(self.body).decode()}),
        }


def read_letter(message: Arrived) -> Letter:
    """The letter in a message from `moorage.dead`. Whatever is written in it, this raises nothing."""
    theirs = _buried_by_the_broker(message.headers)
    headers = _ours(message) if theirs else message.headers
    key = _text(headers.get(header.ROUTING_KEY)) or theirs.get("routing_key") or message.routing_key or ""
    body = _document(message.body)
    first = _time(headers.get(header.FIRST_DEATH)) or theirs.get("time") or _UNKNOWN_TIME
    known = {name: getattr(message, name) for name in ("content_type", "type", "correlation_id", "app_id")}
    return Letter(
        id=message.message_id or _digest(message.body, key),
        body=message.body,
        routing_key=key,
        request=request_name(key),
        network=_named(body, "network"),
        node=_named(body, "node"),
        sender=_text(headers.get(header.SENDER)) or message.user_id or "",
        code=theirs.get("code") or _text(headers.get(header.CODE)) or "unknown",
        reason=theirs.get("reason") or _text(headers.get(header.REASON)) or "it names none",
        first_death=first,
        last_death=theirs.get("time") or _time(headers.get(header.LAST_DEATH)) or first,
        deaths=theirs.get("deaths", 0) + _count(headers.get(header.DEATHS)) or 1,
        version=_integer(message.headers.get(VERSION_HEADER)),
        replay=_text(headers.get(header.REPLAY)),
        properties={name: str(value) for name, value in known.items() if value},
    )


def from_json(given: Mapping[str, Any]) -> Letter:
    """The letter that `as_json` wrote. Raises ValueError, with what is wrong."""
    try:
        body = given["body"].encode() if "body" in given else base64.b64decode(given["body_base64"])
        key = str(given["routing_key"])
        first, last = (datetime.fromisoformat(given[name]) for name in ("first_death", "last_death"))
        if first.tzinfo is None or last.tzinfo is None:
            raise ValueError("its times name no zone")
        return Letter(
            id=str(given["id"]),
            body=body,
            routing_key=key,
            request=request_name(key),
            network=_named(_document(body), "network"),
            node=_named(_document(body), "node"),
            sender=str(given["sender"]),
            code=str(given["code"]),
            reason=str(given["reason"]),
            first_death=first,
            last_death=last,
            deaths=int(given["deaths"]),
            version=_integer(given.get("version")),
            replay=_text(given.get("replay")),
            properties={str(name): str(value) for name, value in (given.get("properties") or {}).items()},
        )
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error


def _ours(message: Arrived) -> Mapping[str, Any]:
    """Our headers on what RabbitMQ buried: a replay's. Anybody else's would be what the sender made up."""
    return message.headers if first_sender(message) is not None else NO_HEADERS


def _buried_by_the_broker(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What RabbitMQ tells of the death that it caused (rabbitmq-website, dlx: the header `x-death`)."""
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else None
    if last is None:
        return {}
    keys = last.get("routing-keys")
    reason = _text(last.get("reason")) or "unknown"
    return {
        "routing_key": keys[0] if isinstance(keys, list) and keys and isinstance(keys[0], str) else None,
        "code": reason,
        "reason": (
            f"RabbitMQ took it out of {last.get('queue')} ({reason}): whoever served it was lost with it, "
            "again and again; see the allocators' logs"
        ),
        "time": _time(last.get("time")),
        "deaths": _count(last.get("count")),
    }


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _named(body: Any, name: str) -> str | None:
    return _text(body.get(name)) if isinstance(body, dict) else None


def _digest(body: bytes, key: str) -> str:
    return hashlib.sha256(key.encode() + b"\0" + body).hexdigest()[:32]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: Any) -> int | None:
    return value if type(value) is int else None


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None
