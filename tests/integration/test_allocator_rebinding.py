"""Owners that move to other addresses, on the real database."""

import pytest
from sqlalchemy import Engine

from schemas.address import (
    AddressRebind,
)
from schemas.pool import PoolUpdate
from tests.integration.allocating import Asked, only
from tests.integration.operating import (
    MAC,
    dual_stack,
    events,
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


def test_a_waiting_owner_moves_and_its_old_address_is_free(asked: Asked):
    reserve(asked, "shop/web-0", "10.1.0.10")
    (view,) = rebind(asked, "shop/web-0", "10.1.0.12")
    assert (str(view.address), view.state, view.mac) == ("10.1.0.12", "waiting", MAC.format(12))
    assert states(asked) == {"10.1.0.10": "free shop/web-0", "10.1.0.12": "waiting shop/web-0"}
    given = asked.attach("shop/web-0")
    assert (only(given), given.mac) == ("10.1.0.12", MAC.format(12))
    assert events(asked, "10.1.0.10") == ["reserved", "freed"]
    (moved,) = [row for row in asked.history(address="10.1.0.12") if row.event == "address.rebound"]
    assert (moved.owner, moved.details) == ("shop/web-0", {"from": "10.1.0.10"})


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_pod_that_runs_keeps_its_address_until_it_ends_and_then_nobody_has_it(asked: Asked, node: str):
    old = asked.attach("shop/web-0", "n1")
    rebind(asked, "shop/web-0", "10.1.0.12")
    assert states(asked) == {"10.1.0.10": "attached shop/web-0", "10.1.0.12": "waiting shop/web-0"}
    new = asked.attach("shop/web-0", node)
    assert (only(new), new.replaces) == ("10.1.0.12", ())
    assert asked.release(old.attachment_id, "n1") == ["10.1.0.10"]
    assert states(asked) == {"10.1.0.10": "free shop/web-0", "10.1.0.12": "attached shop/web-0"}
    asked.release(new.attachment_id, node)
    assert only(asked.attach("shop/web-0", node)) == "10.1.0.12"


def test_the_old_address_is_anothers_once_its_pod_has_ended(asked: Asked):
    old = asked.attach("shop/web-0")
    rebind(asked, "shop/web-0", "10.1.0.12")
    assert asked.refusal(asked.ask("shop/web-1", addresses=["10.1.0.10"])).code == "address_in_use"
    asked.release(old.attachment_id)
    given = asked.attach("shop/web-1", addresses=["10.1.0.10"])
    assert (only(given), given.mac) == ("10.1.0.10", MAC.format(10))


def test_moving_back_while_the_old_pod_still_runs_has_to_wait_for_its_end(asked: Asked):
    old = asked.attach("shop/web-0")
    rebind(asked, "shop/web-0", "10.1.0.12")
    back = asked.make(AddressRebind, owner="shop/web-0", addresses=["10.1.0.10"])
    assert asked.refusal(back).code == "address_in_use"
    asked.release(old.attachment_id)
    assert str(rebind(asked, "shop/web-0", "10.1.0.10")[0].address) == "10.1.0.10"
    assert states(asked) == {"10.1.0.10": "waiting shop/web-0", "10.1.0.12": "free shop/web-0"}


def test_an_owner_moves_into_another_pool_that_allows_it(asked: Asked):
    asked.attach("shop/web-0")
    assert [view.pool for view in rebind(asked, "shop/web-0", "10.1.0.21")] == ["db"]
    assert asked.attach("shop/web-0", pool="db").pool == "db"
    assert asked.refusal(asked.ask("shop/web-0", pool="web")).code == "owner_pinned"


@pytest.mark.parametrize(
    ("owner", "addresses", "code"),
    [
        ("shop/web-0", ["10.1.0.11"], "address_in_use"),
        ("shop/web-0", ["10.1.0.19"], "address_quarantined"),
        ("shop/web-0", ["10.1.0.30"], "owner_forbidden"),  # of cart
        ("shop/web-0", ["10.1.0.40"], "pool_unsuitable"),  # of default
        ("shop/web-0", ["10.9.0.1"], "address_unknown"),
        ("shop/web-0", ["fd00::1"], "address_unknown"),
        ("shop/web-7", ["10.1.0.12"], "address_unknown"),  # pinned to nothing
        ("evil/web-0", ["10.1.0.12"], "owner_forbidden"),
    ],
)
def test_an_owner_that_cannot_move_keeps_what_it_has(
    asked: Asked, owner: str, addresses: list[str], code: str
):
    asked.attach("shop/web-0")
    asked.attach("shop/web-1")
    bad = asked.attach("shop/web-9", addresses=["10.1.0.19"])
    quarantine(asked, bad.attachment_id, "10.1.0.19")
    before, told = asked.addresses(), asked.history()
    assert asked.refusal(asked.make(AddressRebind, owner=owner, addresses=addresses)).code == code
    assert (asked.addresses(), asked.history()) == (before, told)


def test_moving_to_where_the_owner_is_changes_nothing(asked: Asked):
    asked.attach("shop/web-0")
    before, told = asked.addresses(), asked.history()
    assert [str(view.address) for view in rebind(asked, "shop/web-0", "10.1.0.10")] == ["10.1.0.10"]
    assert (asked.addresses(), asked.history()) == (before, told)


def test_one_family_moves_alone_and_the_mac_of_both_follows_the_first(dual: Asked):
    reserve(dual, "shop/web-0")
    moved = rebind(dual, "shop/web-0", "10.1.0.15")
    assert [str(view.address) for view in moved] == ["10.1.0.15", "fd00:1::10"]
    assert {view.mac for view in moved} == {MAC.format(15)}
    moved = rebind(dual, "shop/web-0", "fd00:1::15")
    assert [str(view.address) for view in moved] == ["10.1.0.15", "fd00:1::15"]
    given = dual.attach("shop/web-0")
    assert ([str(a.address) for a in given.addresses], given.mac) == (
        ["10.1.0.15", "fd00:1::15"],
        MAC.format(15),
    )
    dual.check_used()


def test_both_families_move_into_another_pool_together_or_not_at_all(dual: Asked):
    reserve(dual, "shop/web-0")
    half = dual.make(AddressRebind, owner="shop/web-0", addresses=["10.1.0.20"])
    assert dual.refusal(half).code == "pool_unsuitable"
    split = dual.make(AddressRebind, owner="shop/web-0", addresses=["10.1.0.20", "fd00:1::15"])
    assert dual.refusal(split).code == "pool_unsuitable"
    moved = rebind(dual, "shop/web-0", "10.1.0.20", "fd00:1::20")
    assert [(str(view.address), view.pool) for view in moved] == [("10.1.0.20", "db"), ("fd00:1::20", "db")]
    assert dual.attach("shop/web-0").pool == "db"


def test_an_owner_moves_to_an_address_whose_mac_somebody_else_still_has(dual: Asked):
    one, other = dual.attach("shop/web-0"), dual.attach("shop/web-1")
    rebind(dual, "shop/web-1", "10.1.0.15")
    dual.release(other.attachment_id)  # fd00:1::11 waits with the MAC of 10.1.0.11
    dual.release(one.attachment_id)
    moved = rebind(dual, "shop/web-0", "10.1.0.11")
    assert len({view.mac for view in moved}) == 1
    assert dual.attach("shop/web-0").mac == moved[0].mac != dual.attach("shop/web-1").mac


def test_a_chosen_mac_does_not_move_with_the_owner(asked: Asked):
    asked.reply(asked.make(PoolUpdate, pool="web", allow_mac=True))
    held = asked.attach("shop/web-0", mac="02:00:00:00:00:01")
    asked.release(held.attachment_id)
    rebind(asked, "shop/web-0", "10.1.0.12")
    assert asked.attach("shop/web-0").mac == MAC.format(12)
    assert asked.attach("shop/web-1", mac="02:00:00:00:00:01").mac == "02:00:00:00:00:01"
