"""Networks that are deleted, and those that are kept although nodes could not make them."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

from schemas.address import AddressList, AddressReserve
from schemas.history import HistoryList
from schemas.network import NetworkCreate, NetworkDelete, NetworkShow, NetworkUpdate, NetworkView
from schemas.node import NodeFence, NodeRemove, NodeSync
from tests.integration.allocating import Asked
from tests.integration.test_allocator_networks import create, pass_deadlines, state, told

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with two ready nodes and a network on both."""
    asked = Asked(engine)
    asked.network("prod")
    with engine.begin() as connection:
        connection.execute(text("UPDATE requests SET has_waiters = 0"))  # that is answered
    return asked


def delete(asked: Asked, **fields: Any) -> NetworkDelete:
    return asked.make(NetworkDelete, **fields)


def forced(asked: Asked, **fields: Any) -> NetworkDelete:
    return delete(asked, force=True, reason="the tenant left", **fields)


def lose(engine: Engine, node: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET state = 'lost' WHERE name = :n"), {"n": node})


def events(asked: Asked) -> list[tuple[str, str | None]]:
    rows = asked.reply(HistoryList(network="prod", limit=500)).rows
    return [(row.event, row.owner) for row in rows]


def removed(asked: Asked, *nodes: str) -> None:
    for node in nodes:
        asked.report("prod", node, "removed")


def test_a_delete_is_answered_once_every_ready_node_has_removed_the_network(asked: Asked):
    asked.deferred(delete(asked))
    assert {notice.node for notice in asked.notices[-2:]} == {"n1", "n2"}
    page = asked.reply(NodeSync(node="n1", session=asked.sessions["n1"]))
    assert [(n.network, n.state) for n in page.networks] == [("prod", "absent")]
    removed(asked, "n1")
    assert (state(asked), told(asked)) == ("deleting", [])
    removed(asked, "n2")
    (answer,) = told(asked)
    assert answer.result is not None
    view = NetworkView.model_validate(answer.result)
    assert (view.state, dict(view.node_counts)) == ("deleted", {"removed": 2})
    assert asked.refusal(NetworkShow(network="prod")).code == "network_unknown"
    assert [event for event, _ in events(asked)][-2:] == ["network.deleting", "network.deleted"]


def test_a_deleted_network_can_be_made_anew_and_nothing_of_the_old_one_is_left(asked: Asked):
    old = asked.reply(NetworkShow(network="prod")).version
    asked.release(asked.attach("shop/web-0").attachment_id)
    asked.deferred(delete(asked))
    removed(asked, "n1", "n2")
    asked.network("prod", "10.9.0.0/24")
    view = asked.reply(NetworkShow(network="prod"))
    assert view.version > old
    assert (view.state, view.used, asked.reply(AddressList(network="prod")).addresses) == ("active", 0, ())


def test_a_delete_is_refused_while_addresses_are_held_and_names_the_holders(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.12")
    asked.reply(asked.make(AddressReserve, owner="shop/web-0", pool="web"))
    asked.attach("shop/other")
    error = asked.refusal(delete(asked))
    assert (error.code, error.fields["attached"], error.fields["waiting"]) == ("network_in_use", 1, 1)
    assert {(holder["owner"], holder["state"]) for holder in error.fields["holders"]} == {
        ("shop/web-0", "waiting"),
        ("shop/other", "attached"),
    }
    assert state(asked) == "active"


def test_a_forced_delete_releases_each_address_with_a_history_row_and_tells_the_nodes(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.12")
    asked.reply(asked.make(AddressReserve, owner="shop/web-0", pool="web"))
    attached = asked.attach("shop/other", "n2")
    before = len(asked.notices)
    asked.deferred(forced(asked, actor="ann"))
    assert ("n2", None) in {(notice.node, notice.network) for notice in asked.notices[before:]}
    rows = asked.reply(HistoryList(network="prod", limit=500)).rows
    freed = {row.owner: row for row in rows if row.event == "address.freed"}
    assert set(freed) == {"shop/web-0", "shop/other"}
    assert all(row.details["reason"] == "the tenant left" and row.actor == "ann" for row in freed.values())
    assert freed["shop/other"].attachment_id == attached.attachment_id
    assert len({row.seq for row in rows}) == len(rows)
    judged = asked.reply(
        NodeSync(node="n2", session=asked.sessions["n2"], attachments=(attached.attachment_id,))
    )
    assert judged.stale == (attached.attachment_id,)


def test_history_of_a_network_goes_on_after_a_forced_delete(asked: Asked):
    for number in range(5):
        asked.attach(f"shop/web-{number}")
    asked.deferred(forced(asked))
    removed(asked, "n1", "n2")
    asked.network("prod")
    asked.attach("shop/again")
    rows = asked.reply(HistoryList(network="prod", limit=500)).rows
    assert [row.event for row in rows].count("address.freed") == 5
    assert rows[-1].event == "address.attached"


def test_a_forced_delete_needs_a_reason():
    with pytest.raises(ValueError, match="reason"):
        NetworkDelete(request_id="r", network="prod", force=True)


def test_a_network_with_pods_on_a_lost_node_is_not_deleted_until_that_is_fenced(asked: Asked, engine: Engine):
    asked.attach("shop/web-0", "n2")
    lose(engine, "n2")
    error = asked.refusal(forced(asked))
    assert (error.code, error.fields["nodes"]) == ("network_in_use", ["n2"])
    asked.reply(asked.make(NodeFence, node="n2", session=asked.sessions["n2"], reason="it is off"))
    asked.deferred(delete(asked))
    removed(asked, "n1")
    assert [answer.error for answer in told(asked)] == [None]


def test_a_node_that_is_away_holds_nothing_up_and_is_told_when_it_is_back(asked: Asked, engine: Engine):
    lose(engine, "n2")
    asked.deferred(delete(asked))
    removed(asked, "n1")
    (answer,) = told(asked)
    assert answer.result is not None
    states = {node["node"]: node["state"] for node in answer.result["nodes"]}
    assert states == {"n1": "removed", "n2": "ready"}
    page = asked.reply(NodeSync(node="n2", session=asked.sessions["n2"]))
    assert [(n.network, n.state) for n in page.networks] == [("prod", "absent")]
    removed(asked, "n2")
    assert asked.reply(NodeSync(node="n2", session=asked.sessions["n2"])).networks == ()


def test_a_network_stays_deleting_past_the_deadline_while_a_node_has_it(asked: Asked, engine: Engine):
    asked.deferred(delete(asked))
    removed(asked, "n1")
    asked.report("prod", "n2", "error", "link_conflict")
    assert told(asked) == []
    pass_deadlines(engine)
    asked.timers.tick()
    (answer,) = told(asked)
    assert answer.result is not None
    assert answer.result["state"] == "deleting"
    assert asked.refusal(create(request_id="anew")).code == "network_not_ready"
    removed(asked, "n2")
    asked.network("prod")
    assert state(asked) == "active"


@pytest.mark.parametrize("how", ["fence", "remove"])
def test_a_node_that_is_given_up_ends_a_deletion_that_waits_for_it(asked: Asked, engine: Engine, how: str):
    asked.deferred(delete(asked))
    removed(asked, "n1")
    lose(engine, "n2")
    if how == "fence":
        asked.reply(asked.make(NodeFence, node="n2", session=asked.sessions["n2"], reason="it is off"))
    else:
        asked.reply(asked.make(NodeRemove, node="n2"))
    asked.timers.tick()
    assert [answer.error for answer in told(asked)] == [None]
    assert asked.refusal(NetworkShow(network="prod")).code == "network_unknown"


def test_a_second_delete_joins_the_first_and_a_repeated_one_gets_its_answer(asked: Asked):
    first = delete(asked)
    asked.deferred(first)
    asked.deferred(delete(asked))
    removed(asked, "n1", "n2")
    assert len(told(asked)) == 2
    assert asked.refusal(delete(asked)).code == "network_unknown"


def test_a_stale_expected_version_is_refused(asked: Asked):
    assert asked.refusal(delete(asked, expected_version=1)).code == "version_conflict"


def test_a_network_that_is_being_created_is_not_deleted(asked: Asked):
    asked.deferred(create("other"))
    assert asked.refusal(delete(asked, network="other")).code == "network_not_ready"


def test_nobody_gets_an_address_of_a_network_that_is_being_deleted(asked: Asked):
    asked.deferred(delete(asked))
    assert asked.refusal(asked.ask("shop/web-0")).code == "network_not_ready"


def test_whoever_waits_for_an_update_is_told_of_the_delete(asked: Asked):
    asked.deferred(asked.make(NetworkUpdate, mtu=1400))
    asked.deferred(delete(asked))
    (answer,) = told(asked)
    assert answer.error is not None
    assert answer.error.code == "network_unknown"


def test_the_mtu_can_be_changed_and_reaches_the_next_pod(asked: Asked):
    asked.deferred(asked.make(NetworkUpdate, mtu=1400))
    for node in ("n1", "n2"):
        asked.report("prod", node)
    assert asked.reply(NetworkShow(network="prod")).definition.mtu == 1400
    assert asked.attach("shop/web-0").mtu == 1400


def test_a_network_is_kept_where_nodes_could_make_it(asked: Asked):
    asked.deferred(create("other", keep_going=True))
    asked.report("other", "n1")
    asked.report("other", "n2", "error", "uplink_missing")
    (answer,) = told(asked)
    assert answer.result is not None
    assert {node["node"]: node["state"] for node in answer.result["nodes"]} == {"n1": "ready", "n2": "error"}
    assert state(asked, "other") == "active"
    asked.report("other", "n2")
    assert dict(asked.reply(NetworkShow(network="other")).node_counts) == {"ready": 2}


def test_a_network_that_no_node_has_is_failed_until_one_has_it(asked: Asked):
    asked.deferred(create("other", keep_going=True))
    for node in ("n1", "n2"):
        asked.report("other", node, "error", "uplink_missing")
    assert state(asked, "other") == "failed"
    assert asked.refusal(asked.ask("shop/web-0", network="other")).code == "network_not_ready"
    page = asked.reply(NodeSync(node="n1", session=asked.sessions["n1"]))
    assert [(n.network, n.state) for n in page.networks] == [("other", "present"), ("prod", "present")]
    asked.report("other", "n2")
    assert state(asked, "other") == "active"
    assert asked.attach("shop/web-0", network="other").network == "other"


def test_a_network_that_failed_and_was_kept_can_be_deleted(asked: Asked):
    asked.deferred(NetworkCreate.model_validate(create("other").model_dump() | {"keep_going": True}))
    for node in ("n1", "n2"):
        asked.report("other", node, "error", "uplink_missing")
    asked.deferred(delete(asked, network="other"))
    for node in ("n1", "n2"):
        asked.report("other", node, "removed")
    assert asked.refusal(NetworkShow(network="other")).code == "network_unknown"


def test_counts_come_without_the_nodes_where_these_are_not_asked_for(asked: Asked):
    view = asked.reply(NetworkShow(network="prod", with_nodes=False))
    assert (view.nodes, dict(view.node_counts)) == ((), {"ready": 2})
