"""Networks, pools and their jobs on the real database."""

from ipaddress import IPv4Address, IPv6Address
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from allocator.store import requests
from broker.outcome import Delivery, Refused, Reply
from schemas.message import Answer, Done
from schemas.network import NetworkCreate, NetworkList, NetworkShow
from schemas.node import (
    DesiredPage,
    NodeFence,
    NodeHeartbeat,
    NodeList,
    NodeReport,
    NodeSync,
    desired_digest,
    peers_digest,
)
from schemas.pool import PoolCreate, PoolList
from tests.integration.allocating import Asked

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with two ready nodes."""
    return Asked(engine)


def create(name: str = "prod", request_id: str = "r1", **fields: object) -> NetworkCreate:
    body = {"request_id": request_id, "network": name, "subnets": [{"cidr": "10.1.0.0/24"}]}
    return NetworkCreate.model_validate(body | fields)


def pool(request_id: str = "p1", **fields: object) -> PoolCreate:
    body = {"request_id": request_id, "network": "prod", "pool": "web", "policy": "pinned"}
    return PoolCreate.model_validate(body | {"ranges": ["10.1.0.10-10.1.0.12"]} | fields)


def told(asked: Asked) -> list[Answer]:
    """The answers in the outbox that somebody waits for."""
    rows = asked.database.run(lambda connection: requests.unsent(connection, 100))
    return [Answer.model_validate(row["answer"]) for row in rows]


def state(asked: Asked, name: str = "prod") -> str:
    return str(asked.reply(NetworkShow(network=name)).state)


def test_a_network_is_answered_once_every_ready_node_has_reported(asked: Asked):
    asked.deferred(create())
    asked.report("prod", "n1")
    assert (state(asked), told(asked)) == ("creating", [])
    asked.report("prod", "n2")
    (answer,) = told(asked)
    assert answer.result is not None
    assert [node["state"] for node in answer.result["nodes"]] == ["ready", "ready"]
    assert state(asked) == "active"


def test_a_refusal_on_one_node_takes_the_network_back_and_says_who_said_what(asked: Asked):
    asked.deferred(create())
    asked.report("prod", "n1")
    asked.report("prod", "n2", "error", "uplink_missing")
    assert (state(asked), told(asked)) == ("deleting", [])
    for node in ("n1", "n2"):
        asked.report("prod", node, "removed")
    (answer,) = told(asked)
    assert answer.error is not None
    assert answer.error.code == "rollout_failed"
    assert {node["node"]: node["state"] for node in answer.error.fields["nodes"]} == {
        "n1": "ready",
        "n2": "error",
    }
    assert "uplink_missing on n2" in answer.error.message
    assert asked.refusal(NetworkShow(network="prod")).code == "network_unknown"


def test_a_failed_network_can_be_created_again_and_its_version_grows(asked: Asked):
    asked.deferred(create())
    before = asked.notices[-1].version
    asked.report("prod", "n1")
    asked.report("prod", "n2", "error", "kernel_refused")
    for node in ("n1", "n2"):
        asked.report("prod", node, "removed")
    asked.network("prod", mtu=1400)
    view = asked.reply(NetworkShow(network="prod"))
    assert (view.state, view.definition.mtu) == ("active", 1400)
    assert view.version > before


def test_a_node_that_stays_silent_fails_the_job_at_its_deadline(asked: Asked, engine: Engine):
    asked.deferred(create())
    asked.report("prod", "n1")
    pass_deadlines(engine)
    asked.timers.tick()
    assert (state(asked), told(asked)) == ("deleting", [])
    pass_deadlines(engine)
    asked.timers.tick()
    (answer,) = told(asked)
    assert answer.error is not None
    assert "n2: timeout" in answer.error.message


def pass_deadlines(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE requests SET deadline = deadline - INTERVAL 1 HOUR"))


def test_a_node_that_was_away_is_still_told_to_remove_a_network_that_failed(asked: Asked, engine: Engine):
    asked.deferred(create())
    for _ in range(2):
        pass_deadlines(engine)
        asked.timers.tick()
    page = asked.reply(NodeSync(node="n2", session=uuid4()))
    assert [(n.network, n.state) for n in page.networks] == [("prod", "absent")]
    asked.report("prod", "n2", "removed")
    assert asked.reply(NodeSync(node="n2", session=uuid4())).networks == ()


def test_a_report_of_an_older_version_says_nothing(asked: Asked):
    asked.deferred(create())
    body = {"node": "n1", "session": uuid4(), "network": "prod", "version": 1, "result": "ready"}
    asked.reply(NodeReport.model_validate(body))
    asked.report("prod", "n2")
    assert state(asked) == "creating"


def test_reports_of_one_batch_count_together_whatever_networks_they_are_of(asked: Asked):
    other = create("other", "r2", subnets=[{"cidr": "10.2.0.0/24"}])
    asked.deferred(create())
    asked.deferred(other)
    said = [asked.saying(network, node) for node in ("n1", "n2") for network in ("prod", "other")]
    nowhere = said[0].model_copy(update={"network": "nowhere"})
    assert asked.together(*said, nowhere) == [Reply(Done())] * 5
    assert (state(asked), state(asked, "other")) == ("active", "active")
    assert len(told(asked)) == 2


def test_of_two_reports_of_a_node_in_one_batch_the_last_one_counts(asked: Asked):
    asked.deferred(create())
    refused = asked.saying("prod", "n1", "error", "uplink_missing")
    asked.together(refused, asked.saying("prod", "n2"), asked.saying("prod", "n1"))
    assert state(asked) == "active"
    asked.together(asked.saying("prod", "n1"), refused)
    nodes = asked.reply(NetworkShow(network="prod")).nodes
    assert {result.node: result.state for result in nodes} == {"n1": "error", "n2": "ready"}


def test_a_batch_of_reports_that_fails_a_create_leaves_its_late_reports_behind(asked: Asked):
    asked.deferred(create())
    ready, refused = asked.saying("prod", "n1"), asked.saying("prod", "n2", "error", "uplink_missing")
    asked.together(ready, refused)
    assert state(asked) == "deleting"
    removed = [asked.saying("prod", node, "removed") for node in ("n1", "n2")]
    asked.together(ready, removed[0], refused, removed[1])
    (answer,) = told(asked)
    assert answer.error is not None
    assert {node["node"]: node["state"] for node in answer.error.fields["nodes"]} == {
        "n1": "ready",
        "n2": "error",
    }


def test_a_repeated_create_joins_those_who_wait_and_a_redelivery_joins_nobody(asked: Asked):
    asked.deferred(create())
    asked.deferred(create())
    asked.allocator.apply([Delivery(create(), "producer.x", "other", "c2", "m")])
    asked.deferred(create(request_id="r2"))
    for node in ("n1", "n2"):
        asked.report("prod", node)
    rows = asked.database.run(lambda connection: requests.unsent(connection, 100))
    waiting = {row["request_id"]: row["waiters"] for row in rows}
    assert waiting == {"r1": [["reply", "correlation"], ["other", "c2"]], "r2": [["reply", "correlation"]]}


def test_the_same_definition_again_is_a_success_and_another_one_is_refused(asked: Asked):
    asked.network("prod")
    assert isinstance(asked.send(create(request_id="again")), Reply)
    error = asked.refusal(create(request_id="other", mtu=1400))
    assert (error.code, error.fields["differing"]) == ("network_exists", ["mtu"])


def test_two_networks_have_no_number_in_the_tunnels_in_common(asked: Asked):
    tunnels = {"type": "vxlan", "vni": 42}
    asked.network("prod", driver=tunnels)
    error = asked.refusal(create("other", request_id="other", driver=tunnels))
    assert (error.code, error.fields["network"]) == ("network_exists", "prod")
    asked.network("third", driver=tunnels | {"port": 8472})
    asked.network("fourth", driver=tunnels | {"vni": 43})


def test_nodes_are_told_where_tunnels_lead_and_the_digest_tells_when_that_changes(asked: Asked):
    one, two = IPv4Address("192.168.77.1"), IPv6Address("fd00:77::2")

    def synced(node: str, **fields: object) -> DesiredPage:
        return asked.reply(NodeSync.model_validate({"node": node, "session": asked.sessions[node]} | fields))

    def digest() -> str:
        beat = NodeHeartbeat(node="n1", session=asked.sessions["n1"])
        return str(asked.reply(beat).digest)

    assert synced("n1", address=one).peers is None, "no network has tunnels"
    asked.network("prod", driver={"type": "vxlan", "vni": 42})
    assert synced("n1", address=one).peers == (one,)
    assert synced("n1", attachments=()).peers is None
    version = asked.reply(NetworkShow(network="prod")).version
    assert digest() == desired_digest([("prod", version)], peers_digest([one]))
    before = len(asked.notices)
    assert set(synced("n2", address=two).peers or ()) == {one, two}
    assert {notice.node for notice in asked.notices[before:]} == {"n1", "n2"}
    assert digest() == desired_digest([("prod", version)], peers_digest([one, two]))
    assert set(synced("n2").peers or ()) == {one, two}, "it has the address that it had"
    fence = {"request_id": "f", "node": "n2", "session": asked.sessions["n2"], "reason": "it is off"}
    asked.reply(NodeFence.model_validate(fence))
    assert synced("n1").peers == (one,)


def test_a_request_id_names_one_request(asked: Asked):
    asked.network("prod")
    asked.reply(pool())
    assert asked.reply(pool()) == asked.reply(pool())
    assert asked.refusal(pool(cooldown_s=5)).code == "request_conflict"


def test_without_nodes_a_network_is_active_at_once(engine: Engine):
    asked = Asked(engine, nodes=())
    asked.deferred(create())
    assert state(asked) == "active"
    assert len(told(asked)) == 1


def test_a_node_that_joins_later_gets_what_is_active(asked: Asked):
    asked.network("prod")
    session = uuid4()
    page = asked.reply(NodeSync(node="n3", session=session))
    assert [(n.network, n.state) for n in page.networks] == [("prod", "present")]
    version = page.networks[0].version
    body = {"node": "n3", "session": session, "network": "prod", "version": version, "result": "ready"}
    asked.reply(NodeReport.model_validate(body))
    nodes = asked.reply(NetworkShow(network="prod")).nodes
    assert [(n.node, n.state) for n in nodes] == [("n1", "ready"), ("n2", "ready"), ("n3", "ready")]


def test_a_first_page_tells_where_tunnels_end_also_where_their_network_is_on_a_later_one(asked: Asked):
    session = asked.sessions["n1"]
    asked.network("prod")
    asked.reply(NodeSync(node="n1", session=session, address="192.0.2.1"))
    assert asked.reply(NodeSync(node="n1", session=session)).peers is None
    asked.network("wide", driver={"type": "vxlan", "vni": 7}, subnets=[{"cidr": "10.2.0.0/24"}])
    for limit in (1, 2):
        page = asked.reply(NodeSync(node="n1", session=session, limit=limit))
        assert [str(peer) for peer in page.peers] == ["192.0.2.1"]
    later = asked.reply(NodeSync(node="n1", session=session, after=page.networks[0].network))
    assert later.peers is None
    asked.reply(NodeSync(node="n1", session=session, address="192.0.2.2"))  # at once, however fresh
    assert [str(peer) for peer in asked.reply(NodeSync(node="n1", session=session)).peers] == ["192.0.2.2"]


def test_a_heartbeat_tells_the_digest_of_what_a_node_must_have(asked: Asked):
    asked.network("prod")
    session = asked.sessions["n1"]
    version = asked.reply(NetworkShow(network="prod")).version
    beat = asked.reply(NodeHeartbeat(node="n1", session=session))
    assert beat.digest == desired_digest([("prod", version)])
    assert asked.reply(NodeHeartbeat(node="n1", session=uuid4())).digest == ""


def test_lists_are_paged_by_cursor(asked: Asked):
    for name in ("a", "b", "c"):
        asked.network(name)
    first = asked.reply(NetworkList(limit=2))
    rest = asked.reply(NetworkList(limit=2, after=first.next))
    assert [n.network for n in (*first.networks, *rest.networks)] == ["a", "b", "c"]
    assert rest.next is None
    assert [n.node for n in asked.reply(NodeList()).nodes] == ["n1", "n2"]


def test_a_pool_is_carved_out_of_the_default_pool(asked: Asked):
    asked.network("prod")
    asked.reply(pool())
    pools = {p.pool: p for p in asked.reply(PoolList(network="prod")).pools}
    assert [str(r) for r in pools["web"].ranges] == ["10.1.0.10-10.1.0.12"]
    assert [str(r) for r in pools["default"].ranges] == ["10.1.0.1-10.1.0.9", "10.1.0.13-10.1.0.254"]
    assert pools["web"].total + pools["default"].total == 254


def test_the_same_pool_again_is_a_success_however_its_ranges_are_written(asked: Asked):
    asked.network("prod")
    asked.reply(pool())
    assert isinstance(asked.send(pool("p2", ranges=["10.1.0.12", "10.1.0.10-10.1.0.11"])), Reply)
    assert asked.refusal(pool("p3", policy="shared")).code == "pool_exists"
    assert asked.refusal(pool("p4", pool="default")).code == "pool_exists"


@pytest.mark.parametrize("ranges", [["10.2.0.1"], ["10.1.0.0/28"], ["10.1.0.12-10.1.0.20"], ["fd00::1"]])
def test_ranges_that_are_not_there_to_take_are_refused_whole(asked: Asked, ranges: list[str]):
    asked.network("prod")
    asked.reply(pool())
    assert asked.refusal(pool("p2", pool="other", ranges=["10.1.0.100", *ranges])).code == "range_invalid"
    assert [p.pool for p in asked.reply(PoolList(network="prod")).pools] == ["default", "web"]


def test_a_range_that_somebody_holds_is_refused_with_the_holder(asked: Asked):
    asked.network("prod")
    asked.attach("bank/api-0")
    error = asked.refusal(pool(ranges=["10.1.0.1-10.1.0.5"]))
    assert (error.code, error.fields["holders"][0]["owner"]) == ("range_in_use", "bank/api-0")


def test_carving_around_used_addresses_keeps_their_counters_and_cursors(asked: Asked):
    asked.network("prod")
    for i in range(5):
        asked.attach(f"bank/api-{i}")
    asked.reply(pool(ranges=["10.1.0.6-10.1.0.9"]))
    pools = {p.pool: p.used for p in asked.reply(PoolList(network="prod")).pools}
    assert pools == {"default": 5, "web": 0}
    assert str(asked.attach("bank/api-9").addresses[0].address) == "10.1.0.10"
    assert str(asked.attach("shop/x", pool="web").addresses[0].address) == "10.1.0.6"


def test_a_pool_of_an_unknown_network_is_refused(asked: Asked):
    assert asked.refusal(pool()).code == "network_unknown"


def test_a_no_in_a_batch_leaves_the_others_standing(asked: Asked):
    asked.network("prod")
    batch = [asked.ask("a/a-0"), asked.ask("a/a-1", pool="nope"), asked.ask("a/a-2")]
    outcomes = asked.allocator.apply([Delivery(r, "node.n1", None, None, None) for r in batch])
    assert [isinstance(o, Refused) for o in outcomes] == [False, True, False]
    assert [row.owner for row in asked.addresses()] == ["a/a-0", "a/a-2"]
