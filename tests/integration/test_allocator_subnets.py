"""A live network that changes, on the real database: more subnets, another family, other owners."""

from typing import Any

import pytest
from sqlalchemy import Engine

from allocator.store import requests
from schemas.history import HistoryRow
from schemas.message import Answer
from schemas.network import NetworkShow, NetworkUpdate, NetworkView
from schemas.node import NodeReport, NodeSync
from schemas.pool import PoolList, PoolResize
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod, two addresses, on n1 and n2."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/30")
    return made


def update(asked: Asked, *cidrs: str, **fields: Any) -> NetworkUpdate:
    subnets = [{"cidr": cidr} for cidr in cidrs]
    return asked.make(NetworkUpdate, add_subnets=subnets, **fields)


def updated(asked: Asked, *cidrs: str, **fields: Any) -> None:
    """Changed, and made on both nodes."""
    asked.deferred(update(asked, *cidrs, **fields))
    for node in ("n1", "n2"):
        asked.report("prod", node)


def told(asked: Asked) -> dict[str, Answer]:
    """The answers in the outbox, by request_id."""
    rows = asked.database.run(lambda connection: requests.unsent(connection, 100))
    return {row["request_id"]: Answer.model_validate(row["answer"]) for row in rows}


def network(asked: Asked) -> NetworkView:
    view = asked.reply(NetworkShow(network="prod"))
    assert isinstance(view, NetworkView)
    return view


def both(asked: Asked, owner: str, **fields: Any) -> list[str]:
    return [str(given.address) for given in asked.attach(owner, **fields).addresses]


def test_a_full_network_serves_again_as_soon_as_it_has_a_subnet_more(asked: Asked):
    for number in range(2):
        asked.attach(f"bank/api-{number}")
    assert asked.refusal(asked.ask("bank/api-2")).code == "exhausted"
    before = network(asked).version
    asked.deferred(update(asked, "10.2.0.0/24"))
    given = asked.attach("bank/api-2")
    assert (only(given), given.addresses[0].prefix) == ("10.2.0.1", 24)
    assert given.network_version == network(asked).version > before
    assert network(asked).total == 2 + 254
    assert asked.check_used() == 3


def test_an_update_is_answered_when_every_node_has_told_of_the_new_version(asked: Asked):
    request = update(asked, "10.2.0.0/24")
    asked.deferred(request)
    asked.report("prod", "n1")
    assert request.request_id not in told(asked)
    asked.report("prod", "n2", "error", "kernel_refused")
    answer = told(asked)[request.request_id]
    assert answer.result is not None
    assert {node["node"]: node["state"] for node in answer.result["nodes"]} == {"n1": "ready", "n2": "error"}
    assert network(asked).state == "active"


def test_a_report_of_the_version_before_settles_nothing(asked: Asked):
    old = network(asked).version
    request = update(asked, "10.2.0.0/24")
    asked.deferred(request)
    for node in ("n1", "n2"):
        body = {"node": node, "session": asked.sessions[node], "network": "prod", "version": old}
        asked.reply(NodeReport.model_validate(body | {"result": "ready"}))
    assert request.request_id not in told(asked)


def test_nodes_are_told_of_the_new_definition(asked: Asked):
    asked.deferred(update(asked, "10.2.0.0/24", owners=["shop/*"]))
    assert {(n.node, n.network) for n in asked.notices[-2:]} == {("n1", "prod"), ("n2", "prod")}
    (desired,) = asked.reply(NodeSync(node="n1", session=asked.sessions["n1"])).networks
    assert [str(subnet.cidr) for subnet in desired.definition.subnets] == ["10.1.0.0/30", "10.2.0.0/24"]
    assert desired.version == network(asked).version


def test_pinned_owners_get_the_missing_family_when_they_next_attach(asked: Asked):
    asked.pool("web", "10.1.0.1", owners=["shop/web-*"])
    held = asked.attach("shop/web-0")
    updated(asked, "fd00:1::/64")
    asked.reply(asked.make(PoolResize, pool="web", add=["fd00:1::10-fd00:1::19"]))
    row = asked.addresses(owner="shop/web-0")[0]
    assert (str(row.address), row.attachment_id) == ("10.1.0.1", held.attachment_id)
    request = asked.ask("shop/web-0")
    answer = asked.reply(request)
    assert [str(given.address) for given in answer.addresses] == ["10.1.0.1", "fd00:1::10"]
    assert (answer.mac, answer.replaces) == (held.mac, (held.attachment_id,))
    assert asked.reply(request) == answer
    assert sorted(asked.release(request.attachment_id)) == ["10.1.0.1", "fd00:1::10"]
    assert both(asked, "shop/web-0", node="n2") == ["10.1.0.1", "fd00:1::10"]
    assert asked.check_used() == 2


def test_a_pool_without_the_new_family_serves_nobody_new_until_it_has_it(asked: Asked):
    asked.pool("web", "10.1.0.1-10.1.0.2", owners=["shop/web-*"])
    asked.attach("shop/web-0")
    updated(asked, "fd00:1::/64")
    for owner in ("shop/web-0", "shop/web-1"):
        error = asked.refusal(asked.ask(owner))
        assert (error.code, error.fields["total"]) == ("exhausted", 0)
        assert "moorage pool resize prod web" in error.message
    asked.reply(asked.make(PoolResize, pool="web", size=2))
    assert both(asked, "shop/web-1") == ["10.1.0.2", "fd00:1::1"]
    assert both(asked, "shop/web-0") == ["10.1.0.1", "fd00:1::2"]


def test_shared_owners_get_both_families_from_the_next_attach_on(asked: Asked):
    old = asked.attach("bank/api-0")
    updated(asked, "fd00:1::/64")
    assert both(asked, "bank/api-1") == ["10.1.0.2", "fd00:1::1"]
    assert asked.release(old.attachment_id) == ["10.1.0.1"]
    assert both(asked, "bank/api-0") == ["10.1.0.1", "fd00:1::2"]


def test_other_owners_may_come_at_once_and_those_that_hold_something_keep_it(asked: Asked):
    held = asked.attach("bank/api-0")
    updated(asked, owners=["shop/*"])
    assert asked.refusal(asked.ask("bank/api-1")).code == "owner_forbidden"
    assert only(asked.attach("shop/web-0")) == "10.1.0.2"
    assert [row.state for row in asked.addresses(owner="bank/api-0")] == ["attached"]
    assert asked.release(held.attachment_id) == [only(held)]
    updated(asked, owners=[])
    assert only(asked.attach("bank/api-0")) == only(held)


@pytest.mark.parametrize("cidrs", [["10.1.0.0/24"], ["10.1.0.0/30"], ["10.2.0.0/24", "10.2.0.0/25"]])
def test_a_subnet_that_overlaps_is_refused_and_nothing_changes(asked: Asked, cidrs: list[str]):
    before = network(asked)
    error = asked.refusal(update(asked, *cidrs))
    assert error.code == "subnet_conflict"
    assert "overlap" in error.message
    assert network(asked) == before


def test_an_update_of_an_older_version_or_of_no_network_is_refused(asked: Asked):
    old = network(asked).version
    updated(asked, "10.2.0.0/24", expected_version=old)
    error = asked.refusal(update(asked, "10.3.0.0/24", expected_version=old))
    assert (error.code, error.fields["version"]) == ("version_conflict", network(asked).version)
    assert asked.refusal(update(asked, "10.3.0.0/24", network="nowhere")).code == "network_unknown"


def test_an_update_that_comes_twice_is_one_version_and_one_subnet(asked: Asked):
    request = update(asked, "10.2.0.0/24")
    asked.deferred(request)
    asked.deferred(request)
    version = network(asked).version
    for node in ("n1", "n2"):
        asked.report("prod", node)
    assert asked.reply(request).version == version == network(asked).version
    rows: list[HistoryRow] = [row for row in asked.history() if row.event == "network.updated"]
    assert len(rows) == 1
    other = update(asked, "10.3.0.0/24", request_id=request.request_id)
    assert asked.refusal(other).code == "request_conflict"


def test_what_was_added_can_be_made_a_pool_at_once(asked: Asked):
    asked.deferred(update(asked, "10.2.0.0/24"))
    asked.pool("web", "10.2.0.10-10.2.0.19", owners=["shop/web-*"])
    assert only(asked.attach("shop/web-0")) == "10.2.0.10"
    pools = {pool.pool: [str(r) for r in pool.ranges] for pool in asked.reply(PoolList(network="prod")).pools}
    assert pools["default"] == ["10.1.0.1-10.1.0.2", "10.2.0.1-10.2.0.9", "10.2.0.20-10.2.0.254"]
