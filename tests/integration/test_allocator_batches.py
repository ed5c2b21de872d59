"""Many requests in one transaction, in every order in which a broker may bring them."""

from uuid import uuid4

import pytest
from sqlalchemy import Engine

from broker.outcome import Delivery, Outcome, Refused, Reply
from schemas.address import AddressRelease, AddressReleaseByOperator, AddressReserve, Allocated
from schemas.message import Request
from schemas.network import NetworkUpdate
from schemas.node import NodeFence
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with network prod and a pinned pool for shop/web-*."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.12", owners=["shop/web-*"])
    return made


def together(asked: Asked, *batch: Request) -> list[Outcome]:
    return asked.allocator.apply([Delivery(r, "operator.x", "reply", "c", "m") for r in batch])


def allocated(outcome: Outcome) -> Allocated:
    assert isinstance(outcome, Reply)
    assert isinstance(outcome.message, Allocated)
    return outcome.message


def refused(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.error.code


def release_of(request: Request) -> AddressRelease:
    fields = {"network", "node", "container_id", "ifname", "attachment_id"}
    return AddressRelease.model_validate(request.model_dump(include=fields))


def test_an_allocate_behind_its_release_in_one_batch_attaches_nobody(asked: Asked):
    request = asked.ask("shop/web-0")
    first, _, late = together(asked, request, release_of(request), request)
    assert only(allocated(first)) == "10.1.0.10"
    assert refused(late) == "attachment_released"
    assert asked.addresses(state="attached") == []


def test_the_old_sandbox_does_not_take_the_address_back_in_the_batch_that_replaced_it(asked: Asked):
    old, new = asked.ask("shop/web-0"), asked.ask("shop/web-0")
    _, _, late = together(asked, old, new, old)
    assert refused(late) == "attachment_released"
    assert [row.attachment_id for row in asked.addresses(state="attached")] == [new.attachment_id]


def test_a_repeat_in_the_batch_of_its_take_over_still_names_what_it_replaces(asked: Asked):
    old = asked.attach("shop/web-0")
    request = asked.ask("shop/web-0")
    answers = [allocated(outcome) for outcome in together(asked, request, request)]
    assert [answer.replaces for answer in answers] == [(old.attachment_id,)] * 2


def test_a_whole_batch_may_come_again_after_it_was_committed(asked: Asked):
    batch = [asked.ask(f"shop/web-{i}") for i in range(3)]
    first = [only(allocated(outcome)) for outcome in together(asked, *batch)]
    assert [only(allocated(outcome)) for outcome in together(asked, *batch)] == first
    history = len(asked.history())
    together(asked, *batch)
    assert len(asked.history()) == history


def test_a_pod_that_comes_and_goes_in_one_batch_leaves_its_whole_history(asked: Asked):
    one, two = asked.ask("shop/web-0", "n1"), asked.ask("shop/web-0", "n2")
    together(asked, one, release_of(one), two)
    events = [(row.event, row.node) for row in asked.history(address="10.1.0.10")]
    assert events == [("address.attached", "n1"), ("address.waiting", "n1"), ("address.attached", "n2")]


@pytest.mark.parametrize("batched", [True, False])
def test_a_release_that_overtakes_its_allocate_leaves_nothing_behind(asked: Asked, batched: bool):
    request = asked.ask("shop/web-0")
    if batched:
        _, late = together(asked, release_of(request), request)
    else:
        asked.reply(release_of(request))
        late = asked.send(request)
    assert refused(late) == "attachment_released"
    assert asked.addresses() == []


def test_a_release_that_found_nothing_is_noted_once_however_often_it_is_repeated(asked: Asked):
    attachment_id = uuid4()
    for _ in range(3):
        asked.release(attachment_id)
    (row,) = asked.history(attachment_id=attachment_id)
    assert (row.event, row.address, row.node) == ("address.freed", None, "n1")


def test_a_release_by_the_wrong_node_does_not_end_the_attachment(asked: Asked):
    request = asked.ask("shop/web-0", "n1")
    asked.reply(request)
    asked.release(request.attachment_id, "n2")
    assert only(asked.reply(request)) == "10.1.0.10"
    assert {row.event for row in asked.history(attachment_id=request.attachment_id)} == {"address.attached"}


def test_a_release_and_the_next_owner_share_a_batch_without_a_cooldown(asked: Asked):
    asked.pool("cart", "10.1.0.50", policy="shared", owners=["shop/cart-*"], cooldown_s=0)
    first, second = asked.ask("shop/cart-a"), asked.ask("shop/cart-b")
    outcomes = together(asked, first, release_of(first), second)
    assert only(allocated(outcomes[2])) == "10.1.0.50"
    (row,) = asked.addresses(pool="cart")
    assert row.owner == "shop/cart-b"


def test_refusals_do_not_spoil_what_the_batch_counts(asked: Asked):
    batch = [asked.ask(f"shop/web-{i}") for i in range(5)]
    outcomes = together(asked, *batch)
    assert [refused(outcome) for outcome in outcomes[3:]] == ["exhausted", "exhausted"]
    error = asked.refusal(asked.ask("shop/web-9"))
    assert (error.fields["used"], error.fields["total"]) == (3, 3)


def test_a_fence_behind_a_refusal_in_its_batch_detaches_what_is_on_its_own_node_alone(asked: Asked):
    here, there = asked.attach("shop/web-0", "n1"), asked.attach("shop/web-1", "n2")
    asked.reply(asked.make(AddressReserve, owner="shop/web-2"))
    look = asked.make(AddressReleaseByOperator, address=only(there), reason="x")
    wait = asked.make(AddressReserve, owner="shop/web-2", addresses=["10.1.0.200"])
    fence = asked.make(NodeFence, node="n1", session=asked.sessions["n1"], reason="off")
    outcomes = together(asked, look, wait, fence)
    assert [refused(outcome) for outcome in outcomes[:2]] == ["address_in_use", "owner_pinned"]
    assert {str(row.address): (row.state, row.node) for row in asked.addresses()} == {
        only(here): ("waiting", None),
        only(there): ("attached", "n2"),
        "10.1.0.12": ("waiting", None),
    }


def test_a_subnet_serves_the_requests_behind_it_in_its_batch(engine: Engine):
    asked = Asked(engine, nodes=[])
    asked.network("prod", "10.1.0.0/30")
    for number in range(2):
        asked.attach(f"bank/api-{number}")
    assert refused(asked.send(asked.ask("bank/api-2"))) == "exhausted"
    add = asked.make(NetworkUpdate, add_subnets=[{"cidr": "10.2.0.0/24"}])
    _, given = together(asked, add, asked.ask("bank/api-3"))
    assert only(allocated(given)) == "10.2.0.1"


@pytest.mark.parametrize("between", [AddressReserve, AddressReleaseByOperator])
def test_what_ended_before_another_kind_of_request_has_ended_behind_it(asked: Asked, between: type[Request]):
    old, new = asked.ask("shop/web-0"), asked.ask("shop/web-0")
    about = {"owner": "shop/web-1"} if between is AddressReserve else {"address": "10.1.0.99", "reason": "x"}
    batch = [old, new, asked.make(between, **about), old, new, release_of(new), asked.make(between, **about)]
    outcomes = together(asked, *batch, new, release_of(new))
    assert refused(outcomes[3]) == "attachment_released"
    assert allocated(outcomes[4]) == allocated(outcomes[1])
    assert refused(outcomes[7]) == "attachment_released"
    assert asked.addresses(state="attached") == []
    events = [row.event for row in asked.history(attachment_id=new.attachment_id)]
    assert events == ["address.attached", "address.waiting"]
