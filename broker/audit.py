"""A broker compared with what provisioning and enrolling make of it, through its management API."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker import topology
from broker.login import Where
from broker.management import Management
from broker.permissions import ALLOCATOR, Permissions, permissions_of, permissions_of_allocator
from broker.provisioning import differences
from schemas.errors import Code, ServiceError
from schemas.requests import sender

_TIMEOUT_S = 4.0
_COPIES = 3
_NODE_QUEUE = topology.node_queue("")
_EVENTS_QUEUE = topology.events_queue("")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Users of ours, and in which way some are not as enrolled."""

    users: frozenset[str]
    faults: Mapping[str, str] = field(default_factory=dict)


def topology_faults(management_url: Where, vhost: str) -> list[str]:
    """What of exchanges, queues and bindings is not as provisioned and enrolled. Raises as provisioning."""
    with Management(management_url, timeout_s=_TIMEOUT_S) as api:
        exchanges = {item["name"]: item for item in _all(api, "exchanges", vhost)}
        queues = {item["name"]: item for item in _all(api, "queues", vhost)}
        bound = {
            (item["source"], item["routing_key"], item["destination"])
            for item in _all(api, "bindings", vhost)
            if item.get("destination_type") == "queue"
        }
        users = {item["user"] for item in _all(api, "vhosts", vhost, "permissions")}
    return [
        *_exchange_faults(exchanges),
        *(fault for queue in _wanted(queues, users) for fault in _queue_faults(queue, queues, bound)),
    ]


def _exchange_faults(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for exchange in topology.EXCHANGES:
        wanted = {"type": exchange.kind, "durable": True, "auto_delete": False, "internal": False}
        if exchange.name not in found:
            yield f"there is no exchange {exchange.name}"
        elif different := differences(found[exchange.name], wanted):
            yield f"exchange {exchange.name}: {'; '.join(different)}"


def _wanted(found: Mapping[str, Any], users: set[str]) -> Iterator[topology.Queue]:
    """The shared queues, and the own one of each user that was enrolled or whose queue is there."""
    yield from topology.shared_queues()
    nodes = {name.removeprefix(_NODE_QUEUE) for name in found if name.startswith(_NODE_QUEUE)}
    readers = {name.removeprefix(_EVENTS_QUEUE) for name in found if name.startswith(_EVENTS_QUEUE)}
    nodes |= {user.removeprefix("node.") for user in users if user.startswith("node.")}
    readers |= {user for user in users if user.startswith(("operator.", "console."))}
    yield from map(topology.queue_of_node, sorted(nodes))
    yield from map(topology.queue_of_subscriber, sorted(readers))


def _queue_faults(
    queue: topology.Queue, found: Mapping[str, Mapping[str, Any]], bound: set[tuple[str, str, str]]
) -> Iterator[str]:
    known = found.get(queue.name)
    if known is None:
        yield f"there is no queue {queue.name}"
        return
    arguments = known.get("arguments") or {}
    wanted = {"durable": queue.durable, "auto_delete": False, **queue.arguments}
    if different := differences({**known, **arguments}, wanted, set(arguments)):
        yield f"queue {queue.name}: {'; '.join(different)}"
    for binding in queue.bindings:
        if (binding.exchange, binding.key, queue.name) not in bound:
            yield f"queue {queue.name} is not bound to {binding.exchange} with {binding.key or 'no key'}"


def enrolment(management_url: Where, vhost: str) -> Enrolment:
    """The users of ours on this virtual host, compared with what enrolling gives them now.

    After an upgrade they lack what is new, until they are enrolled again. Raises as provisioning.
    """
    with Management(management_url, timeout_s=_TIMEOUT_S) as api:
        granted = {item["user"]: item for item in _all(api, "vhosts", vhost, "permissions")}
        topics: dict[str, list[Mapping[str, Any]]] = {}
        for item in _all(api, "vhosts", vhost, "topic-permissions"):
            topics.setdefault(item["user"], []).append(item)
    users = frozenset(user for user in granted if user == ALLOCATOR or sender(user) is not None)
    compared = {
        user: _permission_faults(_permissions_for(user), granted[user], topics.get(user, []))
        for user in sorted(users)
    }
    return Enrolment(users, {user: "; ".join(faults) for user, faults in compared.items() if faults})


def _permissions_for(user: str) -> Permissions:
    named = sender(user)
    return permissions_of(*named) if named is not None else permissions_of_allocator()


def _permission_faults(
    wanted: Permissions, granted: Mapping[str, Any], topics: list[Mapping[str, Any]]
) -> list[str]:
    asked = {"configure": wanted.configure, "write": wanted.write, "read": wanted.read}
    faults = [f"may {key} other things than enrolled" for key in asked if granted.get(key) != asked[key]]
    sends = [item for item in topics if item["exchange"] == topology.REQUESTS_EXCHANGE]
    if not sends or sends[0]["write"] != wanted.sends:
        faults.append("may send other requests than enrolled")
    return faults


def alarms(management_url: Where) -> list[str]:
    """What is wrong with the broker's nodes, in words. Raises as provisioning."""
    with Management(management_url, timeout_s=_TIMEOUT_S) as api:
        nodes = _all(api, "nodes")
    return [fault for node in nodes for fault in _node_faults(node)]


def lacking_members(management_url: Where, vhost: str) -> list[str]:
    """Queues of ours of which some copy is away, or that have fewer than there are nodes for, in words.

    A queue has three copies at most, unless somebody asked for more (rabbitmq-website, quorum-queues). Raises
    as provisioning.
    """
    with Management(management_url, timeout_s=_TIMEOUT_S) as api:
        nodes = len(_all(api, "nodes"))
        queues = [item for item in _all(api, "queues", vhost) if item.get("type") == "quorum"]
    ours = {queue.name for queue in topology.shared_queues()}
    return [
        fault
        for item in queues
        if item["name"] in ours
        for fault in _member_faults(item, min(nodes, _COPIES))
    ]


def _member_faults(queue: Mapping[str, Any], wanted: int) -> Iterator[str]:
    members, online = queue.get("members", []), queue.get("online", [])
    if away := sorted(set(members) - set(online)):
        yield f"{queue['name']} has {len(online)} of {len(members)} members: {', '.join(away)} away"
    if len(members) < wanted:
        yield f"{queue['name']} has {len(members)} where there are nodes for {wanted}"


def _node_faults(node: Mapping[str, Any]) -> Iterator[str]:
    name = node.get("name")
    if not node.get("running", True):
        yield f"{name} does not run"
    if node.get("mem_alarm"):
        yield f"{name} is short of memory and blocks who publishes"
    if node.get("disk_free_alarm"):
        yield f"{name} is short of disk and blocks who publishes"
    if node.get("partitions"):
        yield f"{name} is cut off from {', '.join(map(str, node['partitions']))}"


def _all(api: Management, *path: str) -> list[Mapping[str, Any]]:
    found = api.get(*path)
    if not isinstance(found, list):
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"RabbitMQ's management API knows no {'/'.join(path)}: is there a virtual host such as "
            "MOORAGE_AMQP_URL names?",
        )
    return found
