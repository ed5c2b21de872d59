"""Everything that is declared on a broker: exchanges, queues, users. Services only use it."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from broker import topology
from broker.login import Where
from broker.permissions import (
    ALLOCATOR,
    READS_EVENTS,
    Permissions,
    permissions_of,
    permissions_of_allocator,
    user_name,
)
from schemas.errors import Code, ServiceError
from schemas.fields import NodeName

if TYPE_CHECKING:
    from broker.management import Management

SETTLE_S = 5.0
"""A quorum queue declared a moment before its broker is killed may come back dead; after this it is safe."""

_CLOSE_TRIES = 5
_CLOSE_PAUSE_S = 0.2

ClientRole = Literal["producer", "operator", "console"]
Progress = Callable[[str], None]


def _silently(_: str) -> None:
    """Tell nobody."""


def _management(url: Where) -> "Management":
    """The API. An HTTP client costs 5 MB, which no process that only assembles the command line shall pay."""
    from broker.management import Management

    return Management(url)


@dataclass(frozen=True)
class Provisioned:
    """The queues that provisioning made, and those that were there."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


@dataclass(frozen=True)
class Enrolled:
    """A user that can be used now. `password` is None, and `***` in the URL, where the user kept its own."""

    user: str
    amqp_url: str = field(repr=False)
    password: str | None = field(repr=False)


def provision(
    management_url: Where, *, vhost: str = "/", settle_s: float = SETTLE_S, progress: Progress = _silently
) -> Provisioned:
    """Declare all exchanges, queues and bindings. Safe to repeat; nothing that exists is changed.

    Waits `settle_s` seconds where it declared quorum queues. Raises `unavailable`, `sender_forbidden` (not
    an administrator) or `not_provisioned` (something exists in another form; the message says what to do).
    """
    with _management(management_url) as api:
        for exchange in topology.EXCHANGES:
            _ensure_exchange(api, vhost, exchange)
        queues = topology.shared_queues()
        created = [queue for queue in queues if _ensure_queue(api, vhost, queue)]
    if settle_s > 0 and any(queue.quorum for queue in created):
        progress(f"RabbitMQ: {len(created)} queues declared, waiting {settle_s:g} s until they are settled")
        time.sleep(settle_s)
    made = tuple(queue.name for queue in created)
    progress(f"RabbitMQ: provisioned, {len(made)} of {len(queues)} queues new")
    return Provisioned(made, tuple(queue.name for queue in queues if queue.name not in made))


def enroll_allocator(
    management_url: Where,
    *,
    vhost: str = "/",
    amqp: str | None = None,
    rotate: bool = False,
    password: str | None = None,
) -> Enrolled:
    """Make the user that all allocators share. Arguments and errors as in `enroll_node`."""
    with _management(management_url) as api:
        return _enroll(api, ALLOCATOR, permissions_of_allocator(), vhost, amqp, rotate, password)


def enroll_node(
    management_url: Where,
    name: str,
    *,
    vhost: str = "/",
    amqp: str | None = None,
    rotate: bool = False,
    password: str | None = None,
) -> Enrolled:
    """Make a node's queue and its user, who may do this node's work alone.

    Safe to repeat: permissions are set again; the password stays, unless `rotate` asks for a new one or
    `password` names it. `amqp` is HOST:PORT where clients reach RabbitMQ, of several servers with commas
    between, and with `amqps://` before it for TLS; without it, the management API's hosts and the AMQP port
    that it tells. Raises `invalid_request` for a name that no node can have,
    `unavailable`, `sender_forbidden` (not an administrator) or `not_provisioned`.
    """
    _check_name(name)
    with _management(management_url) as api:
        _ensure_queue(api, vhost, topology.queue_of_node(name))
        user = user_name("node", name)
        return _enroll(api, user, permissions_of("node", name), vhost, amqp, rotate, password)


def enroll_client(
    management_url: Where,
    name: str,
    role: ClientRole,
    *,
    vhost: str = "/",
    amqp: str | None = None,
    rotate: bool = False,
    password: str | None = None,
) -> Enrolled:
    """Make the user of a producer, operator or console, and the queue of those who may read events.

    Arguments and errors as in `enroll_node`.
    """
    _check_name(name)
    with _management(management_url) as api:
        user = user_name(role, name)
        if role in READS_EVENTS:
            _ensure_queue(api, vhost, topology.queue_of_subscriber(user))
        return _enroll(api, user, permissions_of(role, name), vhost, amqp, rotate, password)


@dataclass(frozen=True)
class Revoked:
    """A user that can do nothing any more, and whether there was one."""

    user: str
    existed: bool


def revoke_node(management_url: Where, name: str, *, vhost: str = "/") -> Revoked:
    """Remove a node's user and its queue. Safe to repeat. Errors as in `enroll_node`.

    RabbitMQ closes the connections of a user that is removed. What the node's pods have stays as it is.
    """
    _check_name(name)
    return _revoke(management_url, user_name("node", name), vhost, topology.node_queue(name))


def revoke_client(management_url: Where, name: str, role: ClientRole, *, vhost: str = "/") -> Revoked:
    """Remove the user of a producer, operator or console, and its queue of events. As `revoke_node`."""
    _check_name(name)
    user = user_name(role, name)
    return _revoke(management_url, user, vhost, topology.events_queue(user))


def disconnect(management_url: Where, user: str) -> None:
    """Close all connections of a user. It may connect again with the password that it has now."""
    with _management(management_url) as api:
        _close_connections(api, user)


def _close_connections(api: "Management", user: str) -> None:
    """RabbitMQ 3.10 answers 500 where one of them is ending by itself: then it is asked again."""
    for left in reversed(range(_CLOSE_TRIES)):
        try:
            return api.delete("connections", "username", user)
        except ServiceError:
            if not left:
                raise
        time.sleep(_CLOSE_PAUSE_S)
    return None


def _revoke(management_url: Where, user: str, vhost: str, queue: str) -> Revoked:
    with _management(management_url) as api:
        existed = api.get("users", user) is not None
        api.delete("users", user)  # which closes its connections
        _close_connections(api, user)
        api.delete("queues", vhost, queue)
    return Revoked(user, existed)


def create_vhost(management_url: Where, vhost: str) -> None:
    """Make a virtual host that the administrator may use too. Safe to repeat."""
    with _management(management_url) as api:
        api.put("vhosts", vhost)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        api.put("permissions", vhost, str(api.get("whoami")["name"]), body=everything)


def delete_vhost(management_url: Where, vhost: str) -> None:
    """Remove a virtual host and all that is in it. Safe to repeat. Users stay."""
    with _management(management_url) as api:
        api.delete("vhosts", vhost)


def _check_name(name: str) -> None:
    try:
        TypeAdapter(NodeName).validate_python(name)
    except ValidationError as error:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"{name!r} cannot be a name: use lower-case letters, digits, '-' and '.', as Kubernetes does "
            "for its nodes",
        ) from error


def _enroll(
    api: "Management",
    user: str,
    allowed: Permissions,
    vhost: str,
    amqp: str | None,
    rotate: bool,
    password: str | None,
) -> Enrolled:
    address = amqp or _amqp_address(api)
    if password is None and (rotate or api.get("users", user) is None):
        password = secrets.token_urlsafe(24)
    if password is not None:
        api.put("users", user, body={"password": password, "tags": ""})
    api.put(
        "permissions",
        vhost,
        user,
        body={"configure": allowed.configure, "write": allowed.write, "read": allowed.read},
    )
    # Without any topic permission every routing key is allowed.
    sends = {"exchange": topology.REQUESTS_EXCHANGE, "write": allowed.sends, "read": "^$"}
    api.put("topic-permissions", vhost, user, body=sends)
    shown = quote(password, safe="") if password is not None else "***"
    scheme, _, hosts = address.rpartition("://")
    url = f"{scheme or 'amqp'}://{quote(user, safe='')}:{shown}@{hosts}/{quote(vhost, safe='')}"
    return Enrolled(user, url, password)


def _amqp_address(api: "Management") -> str:
    """Scheme, hosts and port where clients reach the broker, as far as its management API tells.

    Who asks it over TLS shall not be told to go on without.
    """
    listeners = (api.get("overview") or {}).get("listeners", [])
    ports = {
        scheme: {item["port"] for item in listeners if item.get("protocol") == protocol}
        for scheme, protocol in (("amqps", "amqp/ssl"), ("amqp", "amqp"))
    }
    scheme = "amqps" if ports["amqps"] and (api.encrypted or not ports["amqp"]) else "amqp"
    if not ports[scheme]:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            "RabbitMQ's management API names no AMQP listener: say with --amqp HOST:PORT where clients "
            "reach RabbitMQ",
        )
    if len(api.hosts) > 1 and len(ports[scheme]) > 1:
        raise ServiceError(
            Code.INVALID_REQUEST,
            "the servers of this cluster listen on different ports, and nothing tells which is whose: "
            "say with --amqp HOST:PORT,HOST:PORT where clients reach them",
        )
    hosts = (f"[{host}]" if ":" in host else host for host in api.hosts)
    return f"{scheme}://" + ",".join(f"{host}:{min(ports[scheme])}" for host in hosts)


def _ensure_exchange(api: "Management", vhost: str, exchange: topology.Exchange) -> None:
    found = api.get("exchanges", vhost, exchange.name)
    wanted = {"type": exchange.kind, "durable": True, "auto_delete": False, "internal": False}
    if found is None:
        api.put("exchanges", vhost, exchange.name, body={**wanted, "arguments": {}})
        return
    _compare("exchange", exchange.name, found, wanted)


def _ensure_queue(api: "Management", vhost: str, queue: topology.Queue) -> bool:
    """Whether it had to be made."""
    found = api.get("queues", vhost, queue.name)
    wanted = {"durable": queue.durable, "auto_delete": False}
    if found is None:
        api.put("queues", vhost, queue.name, body={**wanted, "arguments": dict(queue.arguments)})
    else:
        existing = found.get("arguments", {})
        _compare("queue", queue.name, {**found, **existing}, {**wanted, **queue.arguments}, set(existing))
    for binding in queue.bindings:
        body = {"routing_key": binding.key, "arguments": {}}
        api.post("bindings", vhost, "e", binding.exchange, "q", queue.name, body=body)
    return found is None


def _compare(
    what: str,
    name: str,
    found: dict[str, Any],
    wanted: dict[str, Any],
    arguments: set[str] | frozenset[str] = frozenset(),
) -> None:
    different = differences(found, wanted, arguments)
    if different:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"{what} {name} exists in another form: {'; '.join(different)}. RabbitMQ cannot change it: "
            f"once nothing is in it that you need, delete it (in the management page, or `rabbitmqctl "
            f"delete_queue` for a queue) and provision again",
            name=name,
            differences=different,
        )


def differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], arguments: Collection[str] = frozenset()
) -> list[str]:
    """How `found` is not as `wanted`, in words; `arguments` are those of its keys that may be superfluous."""
    different = [
        f"{key} is {found.get(key, 'not set')} and must be {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    return different + [
        f"{key} is {found[key]} and must not be set" for key in sorted(set(arguments) - set(wanted))
    ]
