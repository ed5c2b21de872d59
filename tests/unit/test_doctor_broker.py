"""What the doctor makes of what a broker tells."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from broker import audit, inspection, topology
from broker.audit import Enrolment
from broker.inspection import QueueDepth, user_of, vhost_of
from broker.permissions import permissions_of, permissions_of_allocator
from cni.places import Places
from compose.doctor import broker_checks
from compose.doctor.site import Site
from compose.doctor.verdict import Skipped
from compose.settings import Settings
from schemas.errors import Code, ServiceError

AMQP = "amqp://operator.a:x@broker:5672/%2F"
API = "http://admin:x@broker:15672"


def site(**settings: Any) -> Site:
    made = Settings.model_validate({"amqp_url": AMQP, "management_url": API} | settings)
    return Site(made, Places(Path("/b"), Path("/c"), Path("/s")))


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> dict[str, inspection.Seen]:
    """What each queue holds; read by one consumer, and empty, unless a test says otherwise."""
    known: dict[str, inspection.Seen] = {}

    async def depths(url: str, names: Iterable[str]) -> dict[str, inspection.Seen]:
        return {name: known.get(name, QueueDepth(0, 1)) for name in names}

    async def missing(url: str, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in known]

    monkeypatch.setattr(inspection, "depths", depths)
    monkeypatch.setattr(inspection, "missing_exchanges", missing)
    return known


@pytest.mark.parametrize(
    ("held", "state", "says"),
    [
        ({}, "ok", "all 6 queues are read; waiting in them: 0 messages"),
        ({"moorage.allocator.2": QueueDepth(7, 0)}, "fail", "nobody reads moorage.allocator.2 (7 waiting)"),
        ({"moorage.heartbeats": QueueDepth(0, 0)}, "fail", "nobody reads moorage.heartbeats"),
        ({"moorage.allocator.0": QueueDepth(5000, 1)}, "warn", "moorage.allocator.0 holds 5000"),
        ({"moorage.queries": ServiceError(Code.NOT_PROVISIONED, "no")}, "fail", "1 queue cannot be seen"),
    ],
)
def test_queues_are_to_be_read(queues, held, state: str, says: str):
    queues.update(held)
    said = broker_checks.consumers(site())
    assert said.state == state
    assert says in said.found


def test_dead_letters_are_told(queues):
    assert broker_checks.dead_letters(site()).state == "ok"
    queues[topology.DEAD] = QueueDepth(3, 0)
    said = broker_checks.dead_letters(site())
    assert (said.state, said.found) == ("warn", "3 messages could not be served")
    assert "`moorage dead list`" in said.advice
    queues[topology.DEAD] = ServiceError(Code.NOT_PROVISIONED, "there is no moorage.dead")
    assert broker_checks.dead_letters(site()).state == "fail"
    queues[topology.DEAD] = ServiceError(Code.SENDER_FORBIDDEN, "may not")
    with pytest.raises(Skipped, match="may not"):
        broker_checks.dead_letters(site())


def test_without_the_api_it_is_seen_whether_things_are_there(queues):
    said = broker_checks.topology_(site(management_url=None))
    assert said.state == "ok"
    assert "MOORAGE_MANAGEMENT_URL would tell" in said.found
    queues["moorage.allocator.1"] = ServiceError(Code.NOT_PROVISIONED, "no")
    said = broker_checks.topology_(site(management_url=None))
    assert (said.state, said.found) == ("fail", "there is no queue moorage.allocator.1")
    assert "`moorage broker provision`" in said.advice


@pytest.mark.parametrize(
    ("enrolment", "state", "says", "advises"),
    [
        (Enrolment(frozenset({"operator.a"})), "ok", "1 user as enrolled", ""),
        (Enrolment(frozenset({"node.n1"})), "fail", "user operator.a is none", "moorage client enroll NAME"),
        (
            Enrolment(frozenset({"operator.a", "node.n1"}), {"node.n1": "may not"}),
            "warn",
            "node.n1 may not",
            "`moorage node enroll NAME`",
        ),
        (
            Enrolment(
                frozenset({"operator.a", "allocator"}), {"operator.a": "may not", "allocator": "may not"}
            ),
            "fail",
            "operator.a may not",
            "`moorage broker provision` and `moorage client enroll NAME --role ROLE`",
        ),
    ],
)
def test_users_are_to_be_as_enrolled(monkeypatch, enrolment, state: str, says: str, advises: str):
    monkeypatch.setattr(audit, "enrolment", lambda url, vhost: enrolment)
    said = broker_checks.permissions(site())
    assert said.state == state
    assert says in said.found
    assert advises in (said.advice or "")


def test_alarms_are_told(monkeypatch):
    monkeypatch.setattr(audit, "alarms", lambda url: [])
    assert broker_checks.alarms(site()).state == "ok"
    monkeypatch.setattr(audit, "alarms", lambda url: ["rabbit@a is short of disk and blocks who publishes"])
    said = broker_checks.alarms(site())
    assert said.state == "fail"
    assert "rabbitmqctl list_alarms" in said.advice


@pytest.mark.parametrize("check", [broker_checks.permissions, broker_checks.alarms])
def test_what_needs_the_api_says_so(check):
    with pytest.raises(Skipped, match="needs MOORAGE_MANAGEMENT_URL"):
        check(site(management_url=None))


class FakeManagement:
    """RabbitMQ's management API with these lists, by their path."""

    lists: dict[str, list[dict[str, Any]]]

    def __init__(self, url: str, *, timeout_s: float) -> None:
        assert timeout_s < 5

    def __enter__(self) -> "FakeManagement":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def get(self, *path: str) -> Any:
        return self.lists.get("/".join(path))


def declared() -> dict[str, list[dict[str, Any]]]:
    queues = [
        *topology.shared_queues(),
        topology.queue_of_node("n1"),
        topology.queue_of_subscriber("operator.a"),
    ]
    granted = {"node.n1": permissions_of("node", "n1"), "operator.a": permissions_of("operator", "a")}
    granted["allocator"] = permissions_of_allocator()
    return {
        "exchanges//": [
            {"name": e.name, "type": e.kind, "durable": True, "auto_delete": False, "internal": False}
            for e in topology.EXCHANGES
        ],
        "queues//": [
            {"name": q.name, "durable": True, "auto_delete": False, "arguments": dict(q.arguments)}
            for q in queues
        ],
        "bindings//": [
            {"source": b.exchange, "routing_key": b.key, "destination": q.name, "destination_type": "queue"}
            for q in queues
            for b in q.bindings
        ],
        "vhosts///permissions": [
            {"user": user, "configure": may.configure, "write": may.write, "read": may.read}
            for user, may in [*granted.items(), ("guest", permissions_of_allocator())]
        ],
        "vhosts///topic-permissions": [
            {"user": user, "exchange": "moorage.requests", "write": may.sends, "read": "^$"}
            for user, may in granted.items()
        ],
        "nodes": [{"name": "rabbit@a", "running": True, "mem_alarm": False, "disk_free_alarm": False}],
    }


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """What the API tells: all as declared."""
    monkeypatch.setattr(audit, "Management", FakeManagement)
    FakeManagement.lists = declared()
    return FakeManagement.lists


def test_a_broker_as_it_was_declared_has_no_faults(lists):
    assert audit.topology_faults(API, "/") == []
    assert audit.enrolment(API, "/") == Enrolment(frozenset({"node.n1", "operator.a", "allocator"}))
    assert audit.alarms(API) == []


def test_each_thing_that_is_not_as_declared_is_a_fault(lists):
    lists["exchanges//"][0]["durable"] = False
    del lists["exchanges//"][2]
    gone = ("moorage.queries", "moorage.node.n1")
    lists["queues//"] = [queue for queue in lists["queues//"] if queue["name"] not in gone]
    lists["queues//"][1]["arguments"]["x-delivery-limit"] = 3
    lists["queues//"][2]["arguments"]["x-max-priority"] = 3
    del lists["bindings//"][0]
    assert audit.topology_faults(API, "/") == [
        "exchange moorage.requests: durable is False and must be True",
        "there is no exchange moorage.dead",
        "queue moorage.dead is not bound to moorage.dead with no key",
        "queue moorage.allocator.0: x-delivery-limit is 3 and must be 20",
        "queue moorage.allocator.1: x-max-priority is 3 and must not be set",
        "there is no queue moorage.queries",
        "there is no queue moorage.node.n1",
    ]


def test_a_user_that_may_not_send_what_is_new_is_a_fault(lists):
    lists["vhosts///topic-permissions"][0]["write"] = "^$"
    lists["vhosts///permissions"][1]["read"] = ".*"
    assert audit.enrolment(API, "/").faults == {
        "node.n1": "may send other requests than enrolled",
        "operator.a": "may read other things than enrolled",
    }


def test_a_user_without_topic_permissions_may_send_everything_and_is_a_fault(lists):
    del lists["vhosts///topic-permissions"][:]
    assert set(audit.enrolment(API, "/").faults) == {"node.n1", "operator.a", "allocator"}


def test_a_node_of_the_broker_that_is_unwell_is_a_fault(lists):
    short = {"mem_alarm": True, "disk_free_alarm": True}
    lists["nodes"] += [
        {"name": "rabbit@b", "running": False},
        {"name": "rabbit@c", "running": True, "partitions": ["rabbit@a"], **short},
    ]
    assert [fault.split(" ")[0] for fault in audit.alarms(API)] == ["rabbit@b", *["rabbit@c"] * 3]


def test_a_virtual_host_that_is_not_there_is_said_so(lists):
    with pytest.raises(ServiceError, match="is there a virtual host"):
        audit.topology_faults(API, "other")


def test_user_and_virtual_host_are_read_from_the_url():
    assert (user_of(AMQP), vhost_of(AMQP)) == ("operator.a", "/")
    assert vhost_of("amqp://a:b@h/red%20team") == "red team"
    assert vhost_of("amqp://a:b@h") == "/"
