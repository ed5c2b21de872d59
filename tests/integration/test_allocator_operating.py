"""What people do with addresses, on the real database: reserve and release."""

from uuid import uuid4

import pytest
from sqlalchemy import Engine

from allocator.restoring import declare_restored
from broker.outcome import Refused, Reply
from schemas.address import (
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressShow,
)
from schemas.network import NetworkCreate
from schemas.node import NodeSync
from tests.integration.allocating import Asked, only
from tests.integration.operating import (
    MAC,
    dual_stack,
    events,
    free,
    quarantine,
    rebind,
    reserve,
    states,
    two_pools,
)

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod with pinned pools web and db, and a shared one."""
    return two_pools(engine)


@pytest.fixture
def dual(engine: Engine) -> Asked:
    """A dual-stack network prod with pinned pools."""
    return dual_stack(engine)


def test_a_pod_gets_what_was_reserved_before_it_existed(asked: Asked):
    assert reserve(asked, "shop/web-0", "10.1.0.15") == ["10.1.0.15"]
    assert states(asked) == {"10.1.0.15": "waiting shop/web-0"}
    given = asked.attach("shop/web-0", "n2")
    assert (only(given), given.mac) == ("10.1.0.15", MAC.format(15))
    assert events(asked, "10.1.0.15") == ["reserved", "attached"]


def test_without_an_address_the_next_one_of_the_closest_pinned_pool_is_reserved(asked: Asked):
    assert [reserve(asked, f"shop/web-{i}") for i in range(2)] == [["10.1.0.10"], ["10.1.0.11"]]
    assert reserve(asked, "shop/api-0") == ["10.1.0.20"]
    assert reserve(asked, "shop/web-2", pool="db") == ["10.1.0.21"]
    assert only(asked.attach("shop/web-3")) == "10.1.0.12"


def test_what_was_reserved_is_nobody_elses(asked: Asked):
    reserve(asked, "shop/web-0", "10.1.0.10")
    error = asked.refusal(asked.ask("shop/web-1", addresses=["10.1.0.10"]))
    assert (error.code, error.fields["owner"]) == ("address_in_use", "shop/web-0")
    error = asked.refusal(asked.make(AddressReserve, owner="shop/web-1", addresses=["10.1.0.10"]))
    assert error.code == "address_in_use"


def test_reserving_what_the_owner_has_is_a_success_and_changes_nothing(asked: Asked):
    asked.attach("shop/web-0")
    before, told = asked.addresses(), asked.history()
    assert reserve(asked, "shop/web-0") == ["10.1.0.10"]
    assert reserve(asked, "shop/web-0", "10.1.0.10", pool="web") == ["10.1.0.10"]
    assert (asked.addresses(), asked.history()) == (before, told)


@pytest.mark.parametrize(
    ("owner", "fields", "code"),
    [
        ("shop/web-0", {"addresses": ["10.1.0.12"]}, "owner_pinned"),
        ("shop/web-0", {"pool": "db"}, "owner_pinned"),
        ("evil/web-0", {}, "owner_forbidden"),
        ("bank/api-0", {"pool": "web"}, "owner_forbidden"),
        ("bank/api-0", {"addresses": ["10.1.0.12"]}, "owner_forbidden"),
        ("bank/api-0", {}, "pool_unsuitable"),
        ("shop/cart-1", {}, "pool_unsuitable"),
        ("shop/web-1", {"pool": "nope"}, "pool_unknown"),
        ("shop/web-1", {"addresses": ["10.9.0.1"]}, "address_unknown"),
        ("shop/web-1", {"addresses": ["fd00::1"]}, "address_unknown"),
        ("shop/web-1", {"addresses": ["10.1.0.10"]}, "address_in_use"),
        ("shop/web-1", {"addresses": ["10.1.0.19"]}, "address_quarantined"),
        ("shop/web-1", {"network": "nowhere"}, "network_unknown"),
        ("shop/web-1", {"network": "soon"}, "network_not_ready"),
    ],
)
def test_what_cannot_be_reserved_is_refused_and_changes_nothing(
    asked: Asked, owner: str, fields: dict, code: str
):
    asked.deferred(asked.make(NetworkCreate, network="soon", subnets=[{"cidr": "10.3.0.0/24"}]))
    asked.attach("shop/web-0")
    bad = asked.attach("shop/web-9", addresses=["10.1.0.19"])
    quarantine(asked, bad.attachment_id, "10.1.0.19")
    before, told = asked.addresses(), asked.history()
    assert asked.refusal(asked.make(AddressReserve, owner=owner, **fields)).code == code
    assert (asked.addresses(), asked.history()) == (before, told)


def test_an_exhausted_pool_reserves_nothing_and_says_who_has_it(asked: Asked):
    for number in range(5):
        reserve(asked, f"shop/db-{number}", pool="db")
    error = asked.refusal(asked.make(AddressReserve, owner="shop/db-9", pool="db"))
    assert (error.code, error.fields["used"], error.fields["total"]) == ("exhausted", 5, 5)
    assert error.fields["holders"][0]["state"] == "waiting"


def test_both_families_are_reserved_together_with_one_mac(dual: Asked):
    answer = dual.reply(dual.make(AddressReserve, owner="shop/web-0", addresses=["fd00:1::15"]))
    assert [str(view.address) for view in answer.addresses] == ["10.1.0.10", "fd00:1::15"]
    assert {view.mac for view in answer.addresses} == {MAC.format(10)}
    given = dual.attach("shop/web-0")
    assert ([str(a.address) for a in given.addresses], given.mac) == (
        ["10.1.0.10", "fd00:1::15"],
        MAC.format(10),
    )


def test_an_owners_earlier_address_is_reserved_again_if_it_is_free(asked: Asked):
    held = asked.attach("shop/web-0", addresses=["10.1.0.17"])
    asked.release(held.attachment_id)
    free(asked, "10.1.0.17")
    assert reserve(asked, "shop/web-0") == ["10.1.0.17"]


def test_each_interface_has_addresses_of_its_own(asked: Asked):
    reserve(asked, "shop/web-0")
    assert reserve(asked, "shop/web-0", ifname="net1") == ["10.1.0.11"]
    assert only(asked.attach("shop/web-0", ifname="net1")) == "10.1.0.11"
    assert only(asked.attach("shop/web-0")) == "10.1.0.10"


def test_the_answer_does_not_name_what_the_owner_has_in_a_shared_pool(asked: Asked):
    assert only(asked.attach("shop/web-0", pool="default")) == "10.1.0.1"
    assert reserve(asked, "shop/web-0") == ["10.1.0.10"]


# Rebind.


def test_nobody_is_given_an_address_while_the_nodes_tell_what_they_have(asked: Asked, engine: Engine):
    reserve(asked, "shop/web-0", "10.1.0.10")
    declare_restored(engine)
    for request in (
        asked.make(AddressReserve, owner="shop/web-1"),
        asked.make(AddressRebind, owner="shop/web-0", addresses=["10.1.0.12"]),
    ):
        error = asked.refusal(request)
        assert (error.code, error.retryable) == ("paused", True)
    assert free(asked, "10.1.0.10").state == "free"


# Release by an operator.


def test_an_address_that_waits_is_freed_and_history_keeps_why(asked: Asked):
    reserve(asked, "shop/web-0", "10.1.0.10")
    view = free(asked, "10.1.0.10", actor="anna")
    assert (view.state, view.mac, view.owner) == ("free", None, "shop/web-0")
    (row,) = [row for row in asked.history(address="10.1.0.10") if row.event == "address.freed"]
    assert (row.owner, row.actor, row.details) == ("shop/web-0", "anna", {"reason": "not needed"})
    assert only(asked.attach("shop/web-1", addresses=["10.1.0.10"])) == "10.1.0.10"


def test_an_attached_address_is_refused_and_the_pod_keeps_it(asked: Asked):
    held = asked.attach("shop/web-0")
    request = asked.make(AddressReleaseByOperator, address="10.1.0.10", reason="x")
    error = asked.refusal(request)
    assert (error.code, error.fields["node"]) == ("address_in_use", "n1")
    assert states(asked) == {"10.1.0.10": "attached shop/web-0"}
    assert asked.release(held.attachment_id) == ["10.1.0.10"]


def test_by_force_an_attached_address_is_quarantined_first_and_its_node_told(asked: Asked):
    held = asked.attach("shop/web-0", "n1")
    view = free(asked, "10.1.0.10", force=True)
    assert (view.state, view.node, view.attachment_id) == ("quarantined", None, None)
    assert asked.notices[-1].node == "n1"
    page = asked.reply(NodeSync(node="n1", session=asked.sessions["n1"], attachments=(held.attachment_id,)))
    assert page.stale == (held.attachment_id,)
    assert asked.refusal(asked.ask("shop/web-0", "n2")).code == "address_quarantined"
    assert asked.refusal(asked.ask("shop/web-1", addresses=["10.1.0.10"])).code == "address_quarantined"
    assert free(asked, "10.1.0.10").state == "waiting"
    assert only(asked.attach("shop/web-0", "n2")) == "10.1.0.10"
    assert events(asked, "10.1.0.10") == ["attached", "quarantined", "waiting", "attached"]


def test_by_force_a_shared_address_is_free_after_the_second_release(asked: Asked):
    asked.attach("bank/api-0")
    assert free(asked, "10.1.0.1", force=True).state == "quarantined"
    assert free(asked, "10.1.0.1").state == "free"
    assert states(asked) == {"10.1.0.1": "free bank/api-0"}


def test_a_quarantine_ends_with_a_release_by_an_operator(asked: Asked):
    held = asked.attach("shop/web-0")
    quarantine(asked, held.attachment_id, "10.1.0.10")
    shared = asked.attach("bank/api-0")
    quarantine(asked, shared.attachment_id, only(shared))
    assert free(asked, "10.1.0.10").state == "waiting"
    assert free(asked, only(shared)).state == "free"
    assert states(asked) == {"10.1.0.1": "free bank/api-0", "10.1.0.10": "waiting shop/web-0"}
    assert free(asked, "10.1.0.10").state == "free"


def test_a_quarantined_owner_that_moved_leaves_its_old_address_to_nobody(asked: Asked):
    held = asked.attach("shop/web-0")
    quarantine(asked, held.attachment_id, "10.1.0.10")
    rebind(asked, "shop/web-0", "10.1.0.12")
    assert only(asked.attach("shop/web-0")) == "10.1.0.12"
    assert asked.refusal(asked.ask("shop/web-1", addresses=["10.1.0.10"])).code == "address_quarantined"
    assert free(asked, "10.1.0.10").state == "free"


def test_a_release_meant_for_another_owner_frees_nothing(asked: Asked):
    reserve(asked, "shop/web-1", "10.1.0.10")
    request = asked.make(
        AddressReleaseByOperator, address="10.1.0.10", reason="x", expected_owner="shop/web-0", force=True
    )
    error = asked.refusal(request)
    assert (error.code, error.fields["owner"]) == ("address_in_use", "shop/web-1")
    assert states(asked) == {"10.1.0.10": "waiting shop/web-1"}
    assert free(asked, "10.1.0.10", expected_owner="shop/web-1").state == "free"


def test_a_free_address_is_a_success_and_one_never_used_is_unknown(asked: Asked):
    reserve(asked, "shop/web-0", "10.1.0.10")
    free(asked, "10.1.0.10")
    told = asked.history()
    assert free(asked, "10.1.0.10", expected_owner="shop/web-9").state == "free"
    assert asked.history() == told
    unknown = asked.make(AddressReleaseByOperator, address="10.1.0.11", reason="x")
    assert asked.refusal(unknown).code == "address_unknown"


# Asked again, and together with others.


def test_each_of_them_is_done_once_however_often_it_comes(asked: Asked):
    once = asked.make(AddressReserve, owner="shop/web-0")
    move = asked.make(AddressRebind, owner="shop/web-0", addresses=["10.1.0.12"])
    let = asked.make(AddressReleaseByOperator, address="10.1.0.12", reason="x")
    for request in (once, move, let):
        answers = [asked.reply(request) for _ in range(2)]
        answers += [outcome.message for outcome in asked.together(request, request)]
        assert answers == [answers[0]] * 4
    asked.attach("shop/web-1", addresses=["10.1.0.12"])
    assert asked.reply(let).state == "free"  # the stored answer: nothing happens to the new owner
    assert states(asked)["10.1.0.12"] == "attached shop/web-1"
    other = asked.make(AddressReserve, owner="shop/web-2", request_id=let.request_id)
    assert asked.refusal(other).code == "request_conflict"


def test_a_refusal_is_stored_and_one_that_time_heals_is_not(asked: Asked):
    held = asked.attach("shop/web-0")
    let = asked.make(AddressReleaseByOperator, address="10.1.0.10", reason="x")
    assert asked.refusal(let).code == "address_in_use"
    asked.release(held.attachment_id)
    assert asked.refusal(let).code == "address_in_use"
    gone = asked.attach("bank/api-0", addresses=["10.1.0.40"])
    asked.release(gone.attachment_id)
    asked.pool("open", "10.1.0.40", policy="pinned")
    early = asked.make(AddressReserve, owner="bank/api-1", addresses=["10.1.0.40"])
    assert asked.refusal(early).code == "address_cooling"
    asked.pass_time(121)
    assert [str(view.address) for view in asked.reply(early).addresses] == ["10.1.0.40"]


def test_requests_of_one_batch_see_each_other(asked: Asked):
    ask = asked.ask("shop/web-0")
    outcomes = asked.together(
        asked.make(AddressReserve, owner="shop/web-0", addresses=["10.1.0.15"]),
        asked.make(AddressReserve, owner="shop/web-1", addresses=["10.1.0.15"]),
        ask,
        asked.make(AddressReleaseByOperator, address="10.1.0.15", reason="x"),
        asked.make(AddressRebind, owner="shop/web-0", addresses=["10.1.0.16"]),
    )
    assert [type(outcome) for outcome in outcomes] == [Reply, Refused, Reply, Refused, Reply]
    assert states(asked) == {"10.1.0.15": "attached shop/web-0", "10.1.0.16": "waiting shop/web-0"}
    assert asked.release(ask.attachment_id) == ["10.1.0.15"]


def test_an_address_shows_where_a_reserved_owner_will_come(asked: Asked):
    reserve(asked, "shop/web-0", "10.1.0.15")
    view = asked.reply(asked.make(AddressShow, address="10.1.0.15"))
    assert (view.state, view.owner, view.node, view.pool) == ("waiting", "shop/web-0", None, "web")
    assert asked.release(uuid4()) == []
