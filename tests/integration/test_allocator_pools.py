"""Pools on the real database: carved, resized, changed and given back, and never an address lost over it."""

from ipaddress import ip_address

import pytest
from sqlalchemy import Engine

from broker.outcome import Refused, Reply
from schemas.address import AddressReleaseByOperator, AddressReserve, AddressShow
from schemas.pool import PoolCreate, PoolDelete, PoolList, PoolResize, PoolUpdate, PoolView
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with network prod, 10.1.0.1 to 10.1.0.30."""
    made = Asked(engine, nodes=["n1"])
    made.network("prod", "10.1.0.0/27")
    return made


def sized(asked: Asked, name: str, size: int, policy: str = "pinned", **fields: object) -> PoolView:
    made = asked.reply(asked.make(PoolCreate, pool=name, size=size, policy=policy, **fields))
    assert isinstance(made, PoolView)
    return made


def ranges(asked: Asked, name: str) -> list[str]:
    return [str(part) for part in view(asked, name).ranges]


def view(asked: Asked, name: str) -> PoolView:
    return next(pool for pool in asked.reply(PoolList(network="prod")).pools if pool.pool == name)


def used(asked: Asked) -> dict[str, int]:
    asked.check_used()
    return {pool.pool: pool.used for pool in asked.reply(PoolList(network="prod")).pools}


def check_whole(asked: Asked, total: int) -> None:
    """Assert that every address of the network is in exactly one pool."""
    spans = [part for pool in asked.reply(PoolList(network="prod")).pools for part in pool.ranges]
    numbers = [n for span in spans for n in range(int(span.first), int(span.last) + 1)]
    assert len(numbers) == len(set(numbers)) == total
    asked.check_used()


def test_a_pool_by_size_takes_the_first_never_used_addresses(asked: Asked):
    made = sized(asked, "web", 4)
    assert ([str(r) for r in made.ranges], made.total, made.used) == (["10.1.0.1-10.1.0.4"], 4, 0)
    assert ranges(asked, "default") == ["10.1.0.5-10.1.0.30"]


def test_a_pool_by_size_passes_over_what_somebody_holds_and_prefers_what_was_never_used(asked: Asked):
    held = asked.attach("bank/api-0", addresses=["10.1.0.2"])
    gone = asked.attach("bank/api-1", addresses=["10.1.0.3"])
    asked.attach("bank/api-2", addresses=["10.1.0.28"])
    first = asked.attach("bank/api-3")
    asked.release(gone.attachment_id)
    assert only(first) == "10.1.0.1"  # the cursor is behind it
    made = sized(asked, "web", 26)
    assert [str(r) for r in made.ranges] == ["10.1.0.3-10.1.0.27", "10.1.0.29"]
    assert used(asked) == {"default": 3, "web": 0}
    assert only(held) == "10.1.0.2"


def test_a_pool_by_size_falls_back_on_addresses_that_are_free_again(asked: Asked):
    given = [asked.attach(f"bank/api-{i}") for i in range(30)]
    for index in (4, 5, 9):
        asked.release(given[index].attachment_id)
    made = sized(asked, "web", 3, owners=["shop/web-*"])
    assert [str(r) for r in made.ranges] == ["10.1.0.5-10.1.0.6", "10.1.0.10"]
    assert only(asked.attach("shop/web-0")) == "10.1.0.5"
    assert used(asked) == {"default": 27, "web": 1}


def test_a_pool_of_more_than_is_free_is_refused_with_how_many_there_are(asked: Asked):
    asked.attach("bank/api-0")
    error = asked.refusal(asked.make(PoolCreate, pool="web", size=30, policy="pinned"))
    assert (error.code, error.fields["free"]) == ("exhausted", 29)
    assert [pool.pool for pool in asked.reply(PoolList(network="prod")).pools] == ["default"]


def test_a_pool_by_size_has_as_many_of_each_family(engine: Engine):
    asked = Asked(engine, nodes=[])
    asked.network("prod", "10.1.0.0/27", "fd00:1::/64")
    made = sized(asked, "web", 5, owners=["shop/web-*"])
    assert [str(r) for r in made.ranges] == ["10.1.0.1-10.1.0.5", "fd00:1::1-fd00:1::5"]
    both = asked.attach("shop/web-0")
    assert [str(a.address) for a in both.addresses] == ["10.1.0.1", "fd00:1::1"]
    asked.check_used()


def test_a_pool_of_four_thousand_million_addresses_comes_out_of_a_64_at_once(engine: Engine):
    asked = Asked(engine, nodes=[])
    asked.network("prod", "fd00:1::/64")
    asked.attach("bank/api-0", addresses=["fd00:1::1:0"])
    made = sized(asked, "web", 1 << 32, owners=["shop/web-*"])
    assert made.total == 1 << 32
    assert [str(r) for r in made.ranges] == ["fd00:1::1-fd00:1::ffff", "fd00:1::1:1-fd00:1::1:0:1"]
    assert only(asked.attach("shop/web-0")) == "fd00:1::1"
    assert view(asked, "default").total == (1 << 64) - 1 - (1 << 32)


def test_a_refused_pool_names_all_kinds_of_holders_and_changes_nothing(asked: Asked):
    asked.pool("db", "10.1.0.20-10.1.0.22", owners=["shop/db-*"])
    asked.attach("bank/api-0", addresses=["10.1.0.5"])
    before = asked.reply(PoolList(network="prod"))
    asked.attach("shop/db-0")
    error = asked.refusal(asked.make(PoolCreate, pool="web", ranges=["10.1.0.4-10.1.0.6"], policy="pinned"))
    assert (error.code, error.fields["holders"]) == (
        "range_in_use",
        [{"address": "10.1.0.5", "owner": "bank/api-0", "state": "attached", "node": "n1"}],
    )
    assert "bank/api-0" in error.message
    after = asked.reply(PoolList(network="prod"))
    assert [pool.ranges for pool in after.pools] == [pool.ranges for pool in before.pools]


def test_an_exhausted_pool_grows_at_once(asked: Asked):
    asked.pool("web", "10.1.0.10", owners=["shop/web-*"])
    asked.attach("shop/web-0")
    request = asked.ask("shop/web-1")
    assert asked.refusal(request).code == "exhausted"
    grown = asked.reply(asked.make(PoolResize, pool="web", add=["10.1.0.11-10.1.0.12"]))
    assert (grown.total, grown.used) == (3, 1)
    assert only(asked.reply(request)) == "10.1.0.11"
    check_whole(asked, 30)


def test_a_pool_that_grows_in_a_batch_serves_the_requests_behind_it(asked: Asked):
    asked.pool("web", "10.1.0.10", owners=["shop/web-*"])
    asked.attach("shop/web-0")
    grow = asked.make(PoolResize, pool="web", size=2)
    outcomes = asked.together(asked.ask("shop/web-1"), grow, asked.ask("shop/web-2"))
    assert [type(outcome) for outcome in outcomes] == [Refused, Reply, Reply]
    assert only(outcomes[2].message) == "10.1.0.1"
    check_whole(asked, 30)


def test_a_range_that_is_handed_over_takes_its_free_addresses_and_their_rest_along(asked: Asked):
    gone = asked.attach("bank/api-0", addresses=["10.1.0.10"])
    asked.release(gone.attachment_id)
    asked.pool("web", "10.1.0.10-10.1.0.11", owners=["shop/web-*"])
    assert only(asked.attach("shop/web-0")) == "10.1.0.11"
    assert only(asked.attach("shop/web-1")) == "10.1.0.10"
    assert asked.reply(AddressShow(network="prod", address=ip_address("10.1.0.10"))).pool == "web"
    assert used(asked) == {"default": 0, "web": 2}


def test_a_pool_is_not_shrunk_below_its_holders(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.14", owners=["shop/web-*"])
    for number in (12, 14):
        held = asked.attach(f"shop/web-{number}", addresses=[f"10.1.0.{number}"])
    asked.release(held.attachment_id)
    error = asked.refusal(asked.make(PoolResize, pool="web", remove=["10.1.0.12-10.1.0.14"]))
    assert error.code == "range_in_use"
    assert [(h["address"], h["state"]) for h in error.fields["holders"]] == [
        ("10.1.0.12", "attached"),
        ("10.1.0.14", "waiting"),
    ]
    assert asked.refusal(asked.make(PoolResize, pool="web", size=4)).code == "range_in_use"
    assert ranges(asked, "web") == ["10.1.0.10-10.1.0.14"]
    shrunk = asked.reply(asked.make(PoolResize, pool="web", remove=["10.1.0.10-10.1.0.11", "10.1.0.13"]))
    assert [str(r) for r in shrunk.ranges] == ["10.1.0.12", "10.1.0.14"]
    check_whole(asked, 30)


def test_a_pool_by_size_gives_back_its_highest_addresses_and_they_are_for_everybody_again(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.14", owners=["shop/web-*"])
    shrunk = asked.reply(asked.make(PoolResize, pool="web", size=2))
    assert [str(r) for r in shrunk.ranges] == ["10.1.0.10-10.1.0.11"]
    assert only(asked.attach("bank/api-0", addresses=["10.1.0.14"])) == "10.1.0.14"
    grown = asked.reply(asked.make(PoolResize, pool="web", size=4))
    assert [str(r) for r in grown.ranges] == ["10.1.0.1-10.1.0.2", "10.1.0.10-10.1.0.11"]
    check_whole(asked, 30)


def test_one_resize_may_give_and_take(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.14")
    moved = asked.reply(asked.make(PoolResize, pool="web", add=["10.1.0.20"], remove=["10.1.0.10-10.1.0.12"]))
    assert [str(r) for r in moved.ranges] == ["10.1.0.13-10.1.0.14", "10.1.0.20"]
    (row,) = [row for row in asked.history() if row.event == "pool.resized"]
    assert row.details == {"added": ["10.1.0.20"], "removed": ["10.1.0.10-10.1.0.12"]}
    check_whole(asked, 30)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"add": ["10.1.0.31"]}, "range_invalid"),
        ({"add": ["10.1.0.20"]}, "range_invalid"),  # of pool db
        ({"add": ["10.1.0.10"]}, "range_invalid"),  # its own already
        ({"remove": ["10.1.0.9-10.1.0.10"]}, "range_invalid"),
        ({"size": 30}, "exhausted"),
        ({"pool": "nope", "size": 3}, "pool_unknown"),
        ({"pool": "default", "size": 3}, "pool_unsuitable"),
    ],
)
def test_a_resize_that_cannot_be_is_refused_whole(asked: Asked, fields: dict, code: str):
    asked.pool("web", "10.1.0.10-10.1.0.11")
    asked.pool("db", "10.1.0.20")
    before = asked.reply(PoolList(network="prod"))
    assert asked.refusal(asked.make(PoolResize, **{"pool": "web"} | fields)).code == code
    assert asked.reply(PoolList(network="prod")) == before


def test_a_deleted_pool_gives_its_ranges_back_and_their_addresses_are_allocatable_again(asked: Asked):
    asked.pool("web", "10.1.0.1-10.1.0.2", owners=["shop/web-*"])
    held = asked.attach("shop/web-0")
    asked.release(held.attachment_id)
    error = asked.refusal(asked.make(PoolDelete, pool="web"))
    assert (error.code, error.fields["holders"][0]["state"]) == ("pool_in_use", "waiting")
    free(asked, only(held))
    asked.reply(asked.make(PoolDelete, pool="web"))
    assert ranges(asked, "default") == ["10.1.0.1-10.1.0.30"]
    assert only(asked.attach("bank/api-0")) == "10.1.0.2"
    assert asked.refusal(asked.ask("bank/api-1", addresses=["10.1.0.1"])).code == "address_cooling"
    asked.pass_time(121)
    assert only(asked.attach("bank/api-1")) == "10.1.0.1"
    assert asked.refusal(asked.make(PoolDelete, pool="web")).code == "pool_unknown"
    check_whole(asked, 30)


def free(asked: Asked, address: str) -> None:
    asked.reply(asked.make(AddressReleaseByOperator, address=address, reason="not needed"))


def test_a_deleted_pools_name_can_be_taken_again(asked: Asked):
    first = asked.pool("web", "10.1.0.10")
    asked.reply(asked.make(PoolDelete, pool="web"))
    second = asked.pool("web", "10.1.0.11", policy="shared")
    assert second.policy == "shared"
    assert second.version >= first.version
    events = [row.event for row in asked.history() if row.pool == "web"]
    assert events == ["pool.created", "pool.deleted", "pool.created"]


def test_the_default_pool_stays(asked: Asked):
    assert asked.refusal(asked.make(PoolDelete, pool="default")).code == "pool_unsuitable"
    assert asked.refusal(asked.make(PoolUpdate, pool="default", owners=["a/*"])).code == "pool_unsuitable"
    assert asked.refusal(asked.make(PoolUpdate, pool="default", retain_s=60)).code == "pool_unsuitable"
    assert asked.reply(asked.make(PoolUpdate, pool="default", cooldown_s=5)).cooldown_s == 5


def test_a_reserved_pool_is_never_handed_out(asked: Asked):
    asked.pool("lab", "10.1.0.1-10.1.0.29", policy="reserved")
    assert only(asked.attach("bank/api-0")) == "10.1.0.30"
    assert asked.refusal(asked.ask("bank/api-1")).code == "exhausted"
    error = asked.refusal(asked.make(AddressReserve, owner="bank/api-1", pool="lab"))
    assert error.code == "pool_unsuitable"
    assert used(asked) == {"default": 1, "lab": 0}


def test_other_owners_may_come_and_the_old_ones_keep_what_they_hold_but_get_nothing_new(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.12", owners=["shop/web-*"])
    held = asked.attach("shop/web-0")
    changed = asked.reply(asked.make(PoolUpdate, pool="web", owners=["shop/www-*"]))
    assert changed.owners == ("shop/www-*",)
    assert only(asked.attach("shop/www-0")) == "10.1.0.11"
    assert only(asked.attach("shop/web-1")) == "10.1.0.1"  # of default
    asked.release(held.attachment_id)
    assert asked.refusal(asked.ask("shop/web-0")).code == "owner_forbidden"
    assert asked.addresses(owner="shop/web-0")[0].state == "waiting"
    asked.reply(asked.make(PoolUpdate, pool="web", owners=["shop/web-*", "shop/www-*"]))
    assert only(asked.attach("shop/web-0")) == only(held)


def test_what_an_update_does_not_name_stays_as_it_is(asked: Asked):
    asked.pool("web", "10.1.0.10", owners=["shop/web-*"], cooldown_s=7, retain_s=60, allow_mac=True)
    changed = asked.reply(asked.make(PoolUpdate, pool="web", cooldown_s=8))
    assert (changed.cooldown_s, changed.owners, changed.retain_s, changed.allow_mac) == (
        8,
        ("shop/web-*",),
        60,
        True,
    )
    forever = asked.reply(asked.make(PoolUpdate, pool="web", retain_s=0, allow_mac=False))
    assert (forever.cooldown_s, forever.retain_s, forever.allow_mac) == (8, None, False)
    everybody = asked.reply(asked.make(PoolUpdate, pool="web", owners=[]))
    assert everybody.owners == ()


def test_another_cooldown_counts_for_what_is_cooling_already(asked: Asked):
    asked.pool("cart", "10.1.0.10", policy="shared")
    gone = asked.attach("bank/api-0", pool="cart")
    asked.release(gone.attachment_id)
    request = asked.ask("bank/api-1", pool="cart")
    assert asked.refusal(request).code == "exhausted"
    asked.reply(asked.make(PoolUpdate, pool="cart", cooldown_s=0))
    assert only(asked.reply(request)) == "10.1.0.10"


def test_only_in_a_pinned_pool_can_addresses_be_retained(asked: Asked):
    asked.pool("cart", "10.1.0.10", policy="shared")
    assert asked.refusal(asked.make(PoolUpdate, pool="cart", retain_s=60)).code == "pool_unsuitable"


@pytest.mark.parametrize(
    ("kind", "fields"), [(PoolResize, {"size": 3}), (PoolUpdate, {"cooldown_s": 1}), (PoolDelete, {})]
)
def test_a_change_meant_for_an_older_version_is_refused(asked: Asked, kind: type, fields: dict):
    made = asked.pool("web", "10.1.0.10-10.1.0.11")
    changed = asked.reply(asked.make(PoolUpdate, pool="web", cooldown_s=9, expected_version=made.version))
    assert changed.version > made.version
    stale = asked.make(kind, pool="web", expected_version=made.version, **fields)
    error = asked.refusal(stale)
    assert (error.code, error.fields["version"]) == ("version_conflict", changed.version)
    assert view(asked, "web") == changed
    asked.reply(asked.make(kind, pool="web", expected_version=changed.version, **fields))


def test_a_change_that_comes_twice_is_made_once(asked: Asked):
    made = asked.pool("web", "10.1.0.10-10.1.0.11")
    grow = asked.make(PoolResize, pool="web", size=3, expected_version=made.version)
    assert asked.reply(grow) == asked.reply(grow)
    outcomes = asked.together(grow, grow)
    assert [outcome.message for outcome in outcomes] == [asked.reply(grow)] * 2
    assert [row.event for row in asked.history()].count("pool.resized") == 1


def test_a_refusal_stands_for_its_request_even_when_its_cause_is_gone(asked: Asked):
    asked.pool("web", "10.1.0.10")
    held = asked.attach("bank/api-0", addresses=["10.1.0.20"])
    grow = asked.make(PoolResize, pool="web", add=["10.1.0.20"])
    assert asked.refusal(grow).code == "range_in_use"
    asked.release(held.attachment_id)
    assert asked.refusal(grow).fields["holders"][0]["owner"] == "bank/api-0"
    again = asked.make(PoolResize, pool="web", add=["10.1.0.20"])
    assert asked.reply(again).total == 2


def test_a_refusal_that_nobody_hears_is_not_kept_and_its_replay_decided_anew(asked: Asked):
    asked.pool("web", "10.1.0.10")
    held = asked.attach("bank/api-0", addresses=["10.1.0.20"])
    grow = asked.make(PoolResize, pool="web", add=["10.1.0.20"])
    outcome = asked.send(grow, reply_to=None)
    assert isinstance(outcome, Refused)
    assert outcome.error.code == "range_in_use"
    asked.release(held.attachment_id)
    assert asked.reply(grow).total == 2


def test_a_request_id_cannot_be_used_for_something_else(asked: Asked):
    made = asked.pool("web", "10.1.0.10-10.1.0.11")
    asked.reply(asked.make(PoolUpdate, pool="web", cooldown_s=9, request_id="mine"))
    for other in (
        asked.make(PoolUpdate, pool="web", cooldown_s=10, request_id="mine"),
        asked.make(PoolDelete, pool="web", request_id="mine"),
    ):
        assert asked.refusal(other).code == "request_conflict"
    assert view(asked, "web").cooldown_s == 9
    assert view(asked, "web").version == made.version + 1


def test_history_tells_who_changed_a_pool_and_for_whom(asked: Asked):
    asked.pool("web", "10.1.0.10", actor="anna")
    asked.reply(asked.make(PoolUpdate, pool="web", owners=["shop/*"], actor="ben"))
    asked.reply(asked.make(PoolDelete, pool="web", actor="carl"))
    told = [(r.event, r.pool, r.user_id, r.actor) for r in asked.history() if r.event.startswith("pool.")]
    assert told == [
        ("pool.created", "web", "operator.test", "anna"),
        ("pool.updated", "web", "operator.test", "ben"),
        ("pool.deleted", "web", "operator.test", "carl"),
    ]


def test_pools_that_are_cut_again_and_again_keep_every_address_once(asked: Asked):
    for number in range(0, 30, 3):
        held = asked.attach(f"bank/api-{number}", addresses=[f"10.1.0.{number + 1}"])
        if number % 2:
            asked.release(held.attachment_id)
    asked.pool("web", "10.1.0.5-10.1.0.6", "10.1.0.8-10.1.0.9")
    sized(asked, "cart", 5, policy="shared")
    for size in (9, 1, 6, 3):
        asked.reply(asked.make(PoolResize, pool="cart", size=size))
        check_whole(asked, 30)
    asked.reply(asked.make(PoolDelete, pool="web"))
    asked.reply(asked.make(PoolDelete, pool="cart"))
    check_whole(asked, 30)
    assert ranges(asked, "default") == ["10.1.0.1-10.1.0.30"]
    asked.pass_time(121)
    given = {only(asked.attach(f"shop/new-{i}")) for i in range(25)}
    assert len(given) == 25
    assert asked.check_used() == 30
