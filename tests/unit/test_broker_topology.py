"""Names and patterns: where requests go, and who may send them there."""

import re
from uuid import uuid4
from zlib import crc32

import pytest

from broker import topology
from broker.permissions import permissions_of, permissions_of_allocator, user_name
from schemas.address import AddressRelease
from schemas.network import NetworkList, NetworkShow
from schemas.node import NodeHeartbeat, NodeReport, NodeSync
from schemas.requests import MAY_SEND, QUERIES, REQUESTS, Role, sender

ROLES: tuple[Role, ...] = ("node", "producer", "operator", "console")


def _key(name: str) -> str:
    """A routing key on which this request could come."""
    if name == "node.heartbeat":
        return name
    return f"query.{name}" if name in QUERIES else f"3.{name}"


def test_requests_of_one_network_go_to_one_partition() -> None:
    release = AddressRelease(network="prod", node="n1", container_id="c", ifname="eth0")
    report = NodeReport(node="n2", session=uuid4(), network="prod", version=1, result="ready")
    p = crc32(b"prod") % 4
    assert topology.routing_key(release) == f"{p}.address.release"
    assert topology.routing_key(report) == f"{p}.node.report"


def test_a_request_without_a_network_goes_to_its_nodes_partition() -> None:
    assert topology.routing_key(NodeSync(node="n1", session=uuid4())) == f"{crc32(b'n1') % 4}.node.sync"


def test_queries_and_heartbeats_have_keys_of_their_own() -> None:
    assert topology.routing_key(NetworkShow(network="prod")) == "query.network.show"
    assert topology.routing_key(NetworkList()) == "query.network.list"
    assert topology.routing_key(NodeHeartbeat(node="n1", session=uuid4())) == "node.heartbeat"


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_routing_key_names_its_request(name: str) -> None:
    assert topology.request_name(_key(name)) == name


@pytest.mark.parametrize(
    "key",
    [
        "",
        None,
        "address.release",
        "x.address.release",
        "0.network.list",  # a query among changes
        "query.address.release",  # a change among queries
        "0.node.heartbeat",
        "query.node.heartbeat",
        "0.address.release\n",
        "-1.address.release",
    ],
)
def test_a_key_on_which_no_request_is_published_names_none(key: str | None) -> None:
    assert topology.request_name(key) is None


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_publish_exactly_what_it_may_send(role: Role) -> None:
    sends = permissions_of(role, "a").sends
    allowed = {name for name in REQUESTS if re.search(sends, _key(name))}
    assert allowed == MAY_SEND[role]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "key", ["4.address.release", "10.address.release", "0.address.releases", "x0.network.create", "0.address"]
)
def test_a_key_that_only_resembles_one_is_not_allowed(role: Role, key: str) -> None:
    assert not re.search(permissions_of(role, "a").sends, key)


def test_a_node_reads_its_own_queue_and_no_other() -> None:
    read = permissions_of("node", "n1.example").read
    assert re.search(read, "moorage.node.n1.example")
    for other in (
        "moorage.node.n1-example",
        "moorage.node.n1.example.com",
        "moorage.dead",
        "x.moorage.node.n1.example",
    ):
        assert not re.search(read, other)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_declares_or_uses_the_default_exchange(role: Role) -> None:
    permissions = permissions_of(role, "a")
    for name in ("", "moorage.requests", "moorage.node.a", "x"):
        assert not re.search(permissions.configure, name) or name == ""
    assert not re.search(permissions.write, "amq.default")
    assert not re.search(permissions.write, "moorage.events")


@pytest.mark.parametrize("role", ["node", "producer"])
def test_dead_letters_are_for_operators_and_consoles_alone(role: Role) -> None:
    permissions = permissions_of(role, "a")
    assert not re.search(permissions.read, "moorage.dead")
    assert not re.search(permissions.write, "moorage.dead")
    assert re.search(permissions_of("operator", "a").read, "moorage.dead")


@pytest.mark.parametrize("role", ["operator", "console"])
def test_who_may_read_events_reads_its_own_queue_and_no_other(role: Role) -> None:
    read = permissions_of(role, "a").read
    assert re.search(read, topology.queue_of_subscriber(f"{role}.a").name)
    for other in (f"{role}.ab", f"{role}.b", "node.a", "a", ""):
        assert not re.search(read, topology.events_queue(other))


def test_a_queue_of_events_takes_those_of_all_networks_and_never_fills_the_broker() -> None:
    queue = topology.queue_of_subscriber("operator.a")
    (binding,) = queue.bindings
    assert (binding.exchange, binding.key) == ("moorage.events", "events.#")
    assert topology.events_key("_system") == "events._system"
    assert queue.arguments["x-overflow"] == "drop-head"
    assert {"x-message-ttl", "x-max-length-bytes"} <= set(queue.arguments)


def test_the_allocator_consumes_requests_and_sends_none() -> None:
    permissions = permissions_of_allocator()
    for queue in topology.shared_queues():
        assert bool(re.search(permissions.read, queue.name)) == (queue.name != topology.DEAD)
    assert not re.search(permissions.write, "moorage.requests")
    for exchange in ("amq.default", "moorage.dead", "moorage.events"):
        assert re.search(permissions.write, exchange)


def test_a_user_name_is_read_back_as_role_and_name() -> None:
    assert sender(user_name("node", "n1.example")) == ("node", "n1.example")


def test_every_queue_has_a_delivery_limit_of_its_own_and_partitions_dead_letter_at_least_once() -> None:
    queues = {queue.name: queue for queue in topology.shared_queues()}
    assert len(queues) == topology.PARTITIONS + 3
    assert all("x-delivery-limit" in queue.arguments for queue in queues.values())
    assert queues["moorage.dead"].arguments["x-delivery-limit"] == 2**31 - 1
    partition = queues["moorage.allocator.0"].arguments
    assert partition["x-single-active-consumer"] is True
    assert partition["x-dead-letter-strategy"] == "at-least-once"
    assert partition["x-overflow"] == "reject-publish"
    assert not topology.queue_of_node("n1").quorum
