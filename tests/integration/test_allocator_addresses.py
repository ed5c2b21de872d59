"""Allocate and release on the real database: the promises about addresses."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from schemas.address import AddressRelease, AddressShow
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with network prod and a pinned pool for shop/web-*."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.12", owners=["shop/web-*"])
    return made


def test_a_pinned_owner_gets_the_same_address_and_mac_on_whatever_node_it_comes_back(asked: Asked):
    first = asked.attach("shop/web-0", "n1")
    asked.release(first.attachment_id, "n1")
    second = asked.attach("shop/web-0", "n2")
    assert (only(second), second.mac) == (only(first), first.mac)
    assert first.mac == "0a:58:0a:01:00:0a"


def test_no_two_owners_get_one_address(asked: Asked):
    given = [only(asked.attach(f"shop/web-{i}", "n1")) for i in range(3)]
    given += [only(asked.attach(f"bank/api-{i}", "n2")) for i in range(50)]
    assert len(set(given)) == len(given)


def test_a_repeated_allocate_gives_the_same_answer_and_takes_nothing_more(asked: Asked):
    request = asked.ask("shop/web-0")
    assert asked.reply(request) == asked.reply(request)
    assert len(asked.addresses(state="attached")) == 1


def test_a_repeated_take_over_still_names_what_it_replaces(asked: Asked):
    old = asked.attach("shop/web-0")
    request = asked.ask("shop/web-0")
    answers = [asked.reply(request), asked.reply(request)]
    assert [answer.replaces for answer in answers] == [(old.attachment_id,)] * 2


def test_a_late_release_leaves_the_successor_alone(asked: Asked):
    old = asked.attach("shop/web-0", "n1")
    asked.release(old.attachment_id, "n1")
    new = asked.attach("shop/web-0", "n2")
    assert asked.release(old.attachment_id, "n1") == []
    (row,) = asked.addresses(state="attached")
    assert (row.attachment_id, row.node) == (new.attachment_id, "n2")


def test_a_release_of_a_taken_over_sandbox_leaves_the_new_one_alone(asked: Asked):
    old = asked.attach("shop/web-0")
    new = asked.attach("shop/web-0")
    assert asked.release(old.attachment_id) == []
    assert [row.attachment_id for row in asked.addresses(state="attached")] == [new.attachment_id]


def test_a_release_from_another_node_frees_nothing(asked: Asked):
    held = asked.attach("shop/web-0", "n1")
    assert asked.release(held.attachment_id, "n2") == []
    assert len(asked.addresses(state="attached")) == 1


def test_a_lost_journal_releases_by_container_and_interface_on_its_own_node_alone(asked: Asked):
    asked.attach("shop/web-0", "n1", container_id="c7")
    asked.attach("shop/web-1", "n2", container_id="c7")
    body = {"network": "prod", "node": "n1", "container_id": "c7", "ifname": "eth0"}
    freed = asked.reply(AddressRelease.model_validate(body))
    assert [str(address) for address in freed.addresses] == ["10.1.0.10"]
    other = asked.reply(AddressRelease.model_validate(body | {"ifname": "net1", "node": "n2"}))
    assert other.addresses == ()


def test_a_release_of_an_unknown_attachment_or_network_is_a_success(asked: Asked):
    assert asked.release(uuid4()) == []
    body = {"network": "nowhere", "node": "n1", "container_id": "c", "ifname": "eth0"}
    assert asked.reply(AddressRelease.model_validate(body)).addresses == ()


def test_an_allocate_that_arrives_after_its_release_is_refused_and_leaks_nothing(asked: Asked):
    request = asked.ask("shop/web-0")
    asked.reply(request)
    asked.release(request.attachment_id)
    assert asked.refusal(request).code == "attachment_released"
    assert asked.addresses(state="attached") == []


def test_an_allocate_past_its_deadline_is_dropped(asked: Asked):
    asked.dropped(asked.ask("shop/web-0", deadline=datetime.now(UTC) - timedelta(hours=1)))
    assert asked.addresses() == []
    asked.reply(asked.ask("shop/web-0", deadline=datetime.now(UTC) + timedelta(hours=1)))


def test_an_owner_attached_elsewhere_waits_and_is_told_where(asked: Asked):
    asked.attach("shop/web-0", "n1")
    error = asked.refusal(asked.ask("shop/web-0", "n2"))
    assert (error.code, error.retryable, error.fields["node"]) == ("owner_attached_elsewhere", True, "n1")
    assert [row.node for row in asked.addresses(state="attached")] == ["n1"]


def test_an_exhausted_pool_names_itself_its_figures_and_its_holders(asked: Asked):
    for i in range(3):
        asked.attach(f"shop/web-{i}")
    error = asked.refusal(asked.ask("shop/web-3"))
    assert (error.code, error.fields["used"], error.fields["total"]) == ("exhausted", 3, 3)
    assert [holder["owner"] for holder in error.fields["holders"]] == [f"shop/web-{i}" for i in range(3)]


def test_a_waiting_address_is_not_given_to_another_owner_of_its_pool(asked: Asked):
    for i in range(3):
        asked.attach(f"shop/web-{i}")
    freed = asked.addresses(owner="shop/web-1")[0]
    assert freed.attachment_id is not None
    asked.release(freed.attachment_id)
    assert asked.refusal(asked.ask("shop/web-3")).code == "exhausted"
    assert only(asked.attach("shop/web-1", "n2")) == str(freed.address)


def test_an_owner_the_pool_does_not_allow_is_refused(asked: Asked):
    error = asked.refusal(asked.ask("bank/api-0", pool="web"))
    assert error.code == "owner_forbidden"
    assert "shop/web-*" in error.message


def test_a_freed_address_cools_down_before_a_stranger_gets_it(asked: Asked):
    first = asked.attach("bank/api-0")
    asked.release(first.attachment_id)
    assert only(asked.attach("bank/api-1")) != only(first)
    asked.pass_time(121)
    assert only(asked.attach("bank/api-2")) == only(first)


def test_cooldown_is_a_preference_in_a_pool_of_named_owners(asked: Asked):
    asked.pool("cart", "10.1.0.50-10.1.0.51", policy="shared", owners=["shop/cart-*"])
    first = asked.attach("shop/cart-a")
    asked.release(first.attachment_id)
    assert only(asked.attach("shop/cart-b")) == "10.1.0.51"
    assert only(asked.attach("shop/cart-c")) == only(first)


def test_cooldown_is_a_wall_in_the_default_pool(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/30")
    for i in range(2):
        asked.release(asked.attach(f"bank/api-{i}").attachment_id)
    error = asked.refusal(asked.ask("bank/api-9"))
    assert (error.code, error.retryable) == ("exhausted", True)
    assert "cooling" in error.message


def test_dual_stack_is_all_or_nothing(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/30", "fd00:1::/64")
    both = asked.attach("bank/api-0")
    assert [str(a.address) for a in both.addresses] == ["10.1.0.1", "fd00:1::1"]
    asked.attach("bank/api-1")
    assert asked.refusal(asked.ask("bank/api-2")).code == "exhausted"
    assert len(asked.addresses(state="attached")) == 4
    assert sorted(asked.release(both.attachment_id)) == ["10.1.0.1", "fd00:1::1"]


def test_an_ipv6_only_network_gives_distinct_macs(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "fd00:1::/64")
    macs = [asked.attach(f"bank/api-{i}").mac for i in range(5)]
    assert len(set(macs)) == 5
    assert all(mac.startswith("0e:58:") for mac in macs)


def test_every_change_of_ownership_leaves_a_history_row(asked: Asked):
    first = asked.attach("shop/web-0", "n1", container_id="c1")
    asked.release(first.attachment_id, "n1")
    asked.attach("shop/web-0", "n2", container_id="c2")
    rows = asked.history(address="10.1.0.10")
    assert [(r.event, r.node, r.container_id) for r in rows] == [
        ("address.attached", "n1", "c1"),
        ("address.waiting", "n1", "c1"),
        ("address.attached", "n2", "c2"),
    ]
    seqs = [row.seq for row in asked.history()]
    assert seqs == sorted(set(seqs))


def test_the_used_counter_agrees_with_the_rows(asked: Asked, engine: Engine):
    kept = [asked.attach(f"shop/web-{i}") for i in range(3)] + [
        asked.attach(f"bank/api-{i}") for i in range(4)
    ]
    asked.release(kept[0].attachment_id)
    asked.release(kept[5].attachment_id)
    with engine.connect() as connection:
        counted = connection.execute(
            text(
                "SELECT r.used, (SELECT COUNT(*) FROM allocations a WHERE a.range_id = r.id AND "
                "a.state <> 'free') FROM ranges r"
            )
        ).all()
    assert all(used == rows for used, rows in counted)
    assert sum(used for used, _ in counted) == 6


def test_an_address_that_was_never_used_is_unknown(asked: Asked):
    error = asked.refusal(AddressShow.model_validate({"network": "prod", "address": "10.1.0.200"}))
    assert error.code == "address_unknown"
