"""docs/asyncapi.yaml: every message of the product as AsyncAPI 3.0, made of schemas/ and broker/topology.py.

The document is written from the allocator's side, as AsyncAPI wants it of an application: it receives
requests and sends replies, events and nudges.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from broker import topology
from docs.making import models
from docs.making.models import Schema
from schemas.history import Events
from schemas.message import MAX_BODY_BYTES, Administrative, Query, Request
from schemas.node import Nudge
from schemas.requests import HEARTBEAT, MAY_SEND, REQUESTS

_VHOST = "/"
_RECORDED = Path(__file__).parent.parent.parent / "tests" / "recorded"
_ABOUT = """\
Requests are AMQP 0-9-1 messages on the topic exchange `moorage.requests`; the allocator answers to RabbitMQ's
reply queue for RPC. What properties a message has, who may send what and what becomes of a failure:
docs/messages.md.
"""
_REQUEST_PROPERTIES = {
    "type": "the request's name, as in the routing key",
    "content_type": "application/json",
    "user_id": "the RabbitMQ user that publishes, such as producer.team-a; RabbitMQ checks it",
    "reply_to": f"{topology.REPLY_QUEUE}, or nothing: any other queue is refused and never answered",
    "correlation_id": "random; comes back with the answer",
    "message_id": "new for every attempt",
    "delivery_mode": "2",
}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Moorage",
            "version": version("moorage"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _request_channels() | _told_channels() | _queue_channels(),
        "operations": _request_operations() | _told_operations(),
        "components": {
            "messages": _request_messages() | _told_messages(),
            "schemas": models.all_schemas(),
        },
    }


def text() -> str:
    """The document as it is committed."""
    head = "# Made by `make asyncapi` of schemas/ and broker/topology.py: do not change it by hand.\n"
    return head + yaml.safe_dump(document(), sort_keys=False, width=110, allow_unicode=True)


def new_fields(name: str, newest: int) -> dict[str, list[str]]:
    """The fields that each version of a request brought, from the messages that are recorded of each."""
    found, known = {}, set[str]()
    for number in range(1, newest + 1):
        fields = set(json.loads((_RECORDED / f"{name}.v{number}.json").read_text())["fields"])
        if number > 1:
            found[str(number)] = sorted(fields - known)
        known |= fields
    return found


def senders(name: str) -> list[str]:
    """The roles that may send a request."""
    return [role for role, names in MAY_SEND.items() if name in names]


def address(model: type[Request]) -> str:
    """A request's routing key, with `{partition}` where there is one."""
    if model.NAME == HEARTBEAT:
        return HEARTBEAT
    return f"query.{model.NAME}" if issubclass(model, Query) else f"{{partition}}.{model.NAME}"


def queue_of(model: type[Request]) -> str:
    """The channel of the queue that a request is read from."""
    if model.NAME == HEARTBEAT:
        return topology.HEARTBEATS
    return (
        topology.QUERIES_QUEUE
        if issubclass(model, Query)
        else topology.allocator_queue(0)[:-1] + "{partition}"
    )


def _exchange(name: str) -> Schema:
    kind = next(exchange.kind for exchange in topology.EXCHANGES if exchange.name == name)
    return {"name": name, "type": kind, "durable": True, "autoDelete": False, "vhost": _VHOST}


def _routed(exchange: str) -> Schema:
    return {"amqp": {"is": "routingKey", "exchange": _exchange(exchange), "bindingVersion": "0.3.0"}}


def _partition() -> Schema:
    numbers = [str(number) for number in range(topology.PARTITIONS)]
    return {
        "partition": {
            "enum": numbers,
            "description": "CRC-32 of the network's name, of the node's for node.sync, "
            f"node.fence and node.remove, modulo {topology.PARTITIONS}; 0 for audit.record",
        }
    }


def _request_channels() -> dict[str, Any]:
    channels = {}
    for name, model in REQUESTS.items():
        channel: Schema = {
            "address": address(model),
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "bindings": _routed(topology.REQUESTS_EXCHANGE),
        }
        if "{partition}" in channel["address"]:
            channel["parameters"] = _partition()
        channels[name] = channel
    return channels


def _told_channels() -> dict[str, Any]:
    replies = {f"{name}.reply": {"$ref": f"#/components/messages/{name}.reply"} for name in REQUESTS}
    name_of = {"description": "the network's name; _system tells of nodes"}
    return {
        "replies": {
            "address": topology.REPLY_QUEUE,
            "description": "RabbitMQ's reply queue for RPC; replies are transient and unconfirmed",
            "messages": replies,
        },
        "events": {
            "address": topology.events_key("{network}"),
            "parameters": {"network": name_of},
            "messages": {"events": {"$ref": "#/components/messages/events"}},
            "bindings": _routed(topology.EVENTS_EXCHANGE),
        },
    }


def _queue_channels() -> dict[str, Any]:
    shared = topology.shared_queues()
    nodes, subscribers = topology.queue_of_node("{node}"), topology.queue_of_subscriber("{user}")
    channels = {}
    for queue in (*shared, nodes, subscribers):
        bound = [f"{each.exchange} by {each.key or 'all'}" for each in queue.bindings] or [
            "the default exchange"
        ]
        told = ", ".join(f"{key}: {value}" for key, value in queue.arguments.items())
        channel: Schema = {
            "address": queue.name,
            "description": f"fed by {', '.join(bound)}; {told}",
            "messages": _messages_of(queue.name),
            "bindings": {
                "amqp": {
                    "is": "queue",
                    "bindingVersion": "0.3.0",
                    "queue": {
                        "name": queue.name,
                        "durable": queue.durable,
                        "exclusive": False,
                        "autoDelete": False,
                        "vhost": _VHOST,
                    },
                }
            },
        }
        parameters = [part for part in ("node", "user") if f"{{{part}}}" in queue.name]
        if parameters:
            channel["parameters"] = {part: {"description": f"the {part}'s name"} for part in parameters}
        channels[queue.name.replace("{", "").replace("}", "")] = channel
    return channels


def _messages_of(queue: str) -> Schema:
    if queue == topology.node_queue("{node}"):
        names = ["nudge"]
    elif queue == topology.events_queue("{user}"):
        names = ["events"]
    elif queue == topology.DEAD:
        names = [name for name, model in REQUESTS.items() if not issubclass(model, Query)]
    else:
        reads = (
            queue if queue in (topology.HEARTBEATS, topology.QUERIES_QUEUE) else queue[:-1] + "{partition}"
        )
        names = [name for name, model in REQUESTS.items() if queue_of(model) == reads]
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _request_operations() -> dict[str, Any]:
    return {
        name: {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": f"may be sent by: {', '.join(senders(name))}",
            "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
            "bindings": {
                "amqp": {"deliveryMode": 2, "mandatory": True, "ack": True, "bindingVersion": "0.3.0"}
            },
            "reply": {
                "channel": {"$ref": "#/channels/replies"},
                "messages": [{"$ref": f"#/channels/replies/messages/{name}.reply"}],
            },
            "x-moorage-senders": senders(name),
        }
        for name in REQUESTS
    }


def _told_operations() -> dict[str, Any]:
    node = topology.node_queue("node")
    return {
        "events": {
            "action": "send",
            "channel": {"$ref": "#/channels/events"},
            "summary": "to everybody with a queue of events: operators and consoles",
            "messages": [{"$ref": "#/channels/events/messages/events"}],
            "bindings": {"amqp": {"deliveryMode": 2, "mandatory": False, "bindingVersion": "0.3.0"}},
        },
        "nudge": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{node}"},
            "summary": "through the default exchange; its loss only delays",
            "messages": [{"$ref": f"#/channels/{node}/messages/nudge"}],
        },
    }


def _version_header(newest: int) -> Schema:
    return {
        "type": "object",
        "required": ["schema_version"],
        "properties": {"schema_version": {"type": "integer", "enum": list(range(1, newest + 1))}},
    }


def _about(text_: str | None) -> str:
    return " ".join((text_ or "").split())


def _request_messages() -> dict[str, Any]:
    return {
        name: {
            "name": name,
            "title": model.__name__,
            "summary": _about(model.__doc__),
            "description": f"At most {MAX_BODY_BYTES} bytes. "
            + (
                "Repeated with its request_id it gets the stored answer."
                if issubclass(model, Administrative)
                else ""
            ),
            "contentType": "application/json",
            "headers": _version_header(model.VERSION),
            "payload": models.ref(models.asked(model)),
            "bindings": {"amqp": {"messageType": name, "bindingVersion": "0.3.0"}},
            "x-amqp-properties": dict(_REQUEST_PROPERTIES),
            "x-moorage-new-in-version": new_fields(name, model.VERSION),
        }
        for name, model in REQUESTS.items()
    }


def _told_messages() -> dict[str, Any]:
    replies: dict[str, Any] = {
        f"{name}.reply": {
            "name": f"{name}.reply",
            "summary": f"the answer to {name}",
            "contentType": "application/json",
            "payload": models.answered(model),
            "x-amqp-properties": {"correlation_id": "that of the request"},
        }
        for name, model in REQUESTS.items()
    }
    return replies | {
        "events": {
            "name": "events",
            "summary": _about(Events.__doc__),
            "contentType": "application/json",
            "headers": _version_header(Events.VERSION),
            "payload": models.ref(models.told(Events)),
            "bindings": {"amqp": {"messageType": "events", "bindingVersion": "0.3.0"}},
        },
        "nudge": {
            "name": "nudge",
            "summary": _about(Nudge.__doc__),
            "contentType": "application/json",
            "payload": models.ref(models.told(Nudge)),
        },
    }
