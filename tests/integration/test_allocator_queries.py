"""What people look at, on the real database: maps, who had an address when, and history by page."""

import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from allocator.restoring import declare_restored
from schemas.address import (
    AddressList,
    AddressMap,
    AddressQuarantine,
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressShow,
    AddressView,
)
from schemas.errors import ServiceError
from schemas.history import HistoryList, HistoryRow
from schemas.node import NodeAttachment, NodeSync
from schemas.pool import PoolDelete
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod, 10.1.0.1 to 10.1.0.62, its gateway in the middle, with pools of each policy."""
    made = Asked(engine)
    made.network("prod", subnets=[{"cidr": "10.1.0.0/26", "gateway": "10.1.0.32"}])
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    made.pool("lab", "10.1.0.40-10.1.0.44", policy="reserved")
    return made


def page(asked: Asked, **fields: Any) -> tuple[list[str], str | None]:
    """The runs of one page as text, and where the next begins."""
    answer = asked.reply(asked.make(AddressMap, **fields))
    return [f"{run.first}-{run.last} {run.pool} {run.state} {run.count}" for run in answer.runs], answer.next


def whole_map(asked: Asked, limit: int = 500, **fields: Any) -> list[str]:
    """All pages, runs that go on in the next page joined."""
    runs: list[list[Any]] = []
    after: str | None = None
    while True:
        answer = asked.reply(asked.make(AddressMap, limit=limit, after=after, **fields))
        assert len(answer.runs) <= limit
        for run in answer.runs:
            assert int(run.count) == int(run.last) - int(run.first) + 1
            same = bool(runs) and (runs[-1][2], runs[-1][3]) == (run.pool, run.state)
            if same and int(runs[-1][1]) + 1 == int(run.first) and runs[-1][1].version == run.first.version:
                runs[-1][1] = run.last
            else:
                runs.append([run.first, run.last, run.pool, run.state])
        after = answer.next
        if after is None:
            return [f"{first}-{last} {pool} {state}" for first, last, pool, state in runs]


def fill(asked: Asked) -> None:
    """An address in each state."""
    for number in (2, 3):
        asked.attach(f"bank/api-{number}", addresses=[f"10.1.0.{number}"])
    asked.attach("shop/web-0")
    asked.reply(asked.make(AddressReserve, owner="shop/web-1"))
    bad = asked.attach("shop/web-2")
    body = {"attachment_id": bad.attachment_id, "node": "n1", "address": only(bad), "reason": "heard"}
    asked.reply(asked.make(AddressQuarantine, **body))
    old = asked.attach("bank/old-0", addresses=["10.1.0.50"])
    asked.release(old.attachment_id)
    asked.pass_time(121)
    new = asked.attach("bank/old-1", addresses=["10.1.0.51"])
    asked.release(new.attachment_id)


MAP = [
    "10.1.0.1-10.1.0.1 default free",
    "10.1.0.2-10.1.0.3 default attached",
    "10.1.0.4-10.1.0.9 default free",
    "10.1.0.10-10.1.0.10 web attached",
    "10.1.0.11-10.1.0.11 web waiting",
    "10.1.0.12-10.1.0.12 web quarantined",
    "10.1.0.13-10.1.0.19 web free",
    "10.1.0.20-10.1.0.31 default free",
    "10.1.0.33-10.1.0.39 default free",
    "10.1.0.40-10.1.0.44 lab reserved",
    "10.1.0.45-10.1.0.50 default free",
    "10.1.0.51-10.1.0.51 default cooling",
    "10.1.0.52-10.1.0.62 default free",
]


# The map.


def test_a_map_shows_every_address_that_can_be_had_in_its_state(asked: Asked):
    fill(asked)
    assert whole_map(asked) == MAP


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_small_pages_join_up_to_the_same_map(asked: Asked, limit: int):
    fill(asked)
    assert whole_map(asked, limit) == MAP


def test_pages_cut_anywhere_join_up_to_the_same_map(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    fill(asked)
    for rows in (1, 2, 3, 7):
        monkeypatch.setattr("allocator.handlers.queries._MAP_ROWS", rows)
        for limit in (1, 2, 500):
            assert whole_map(asked, limit) == MAP


def test_a_map_of_one_pool_shows_no_other(asked: Asked):
    fill(asked)
    assert whole_map(asked, pool="web") == [run for run in MAP if " web " in run]
    assert whole_map(asked, 1, pool="default") == [run for run in MAP if " default " in run]
    error = asked.refusal(asked.make(AddressMap, pool="nope"))
    assert error.code == "pool_unknown"


def test_a_map_of_a_network_that_was_never_used_is_one_run_for_each_piece(engine: Engine):
    asked = Asked(engine, nodes=[])
    asked.network("prod", "10.1.0.0/16")
    assert page(asked) == (["10.1.0.1-10.1.255.254 default free 65534"], None)


def test_a_map_of_both_families_counts_what_json_numbers_cannot(engine: Engine):
    asked = Asked(engine, nodes=[])
    asked.network("prod", "10.1.0.0/30", "fd00:1::/64")
    asked.attach("bank/api-0", addresses=["fd00:1::5"])
    expected = [
        "10.1.0.1-10.1.0.1 default attached 1",
        "10.1.0.2-10.1.0.2 default free 1",
        "fd00:1::1-fd00:1::4 default free 4",
        "fd00:1::5-fd00:1::5 default attached 1",
        f"fd00:1::6-fd00:1::ffff:ffff:ffff:ffff default free {(1 << 64) - 6}",
    ]
    assert page(asked) == (expected, None)
    for limit in (1, 2, 3):
        assert whole_map(asked, limit) == [run.rpartition(" ")[0] for run in expected]


def test_neighbouring_ranges_of_one_pool_are_one_run_and_gone_pools_leave_no_seam(asked: Asked):
    asked.pool("cart", "10.1.0.20-10.1.0.22", policy="shared")
    assert whole_map(asked)[2] == "10.1.0.20-10.1.0.22 cart free"
    asked.reply(asked.make(PoolDelete, pool="cart"))
    assert "10.1.0.20-10.1.0.31 default free" in whole_map(asked)
    asked.reply(asked.make(PoolDelete, pool="web"))
    assert whole_map(asked)[0] == "10.1.0.1-10.1.0.31 default free"


def test_a_page_that_no_earlier_one_named_is_refused(asked: Asked):
    assert asked.refusal(asked.make(AddressMap, after="second")).code == "invalid_request"
    assert asked.refusal(asked.make(AddressMap, network="nowhere")).code == "network_unknown"


# One address, now and then.


def show(asked: Asked, address: str, at: datetime | None = None) -> AddressView:
    answer = asked.reply(asked.make(AddressShow, address=address, at=at))
    assert isinstance(answer, AddressView)
    return answer


def unknown(asked: Asked, address: str, at: datetime) -> ServiceError:
    return asked.refusal(asked.make(AddressShow, address=address, at=at))


def now(asked: Asked) -> datetime:
    """The database's time, after all that happened and before all that will."""
    with asked.engine.connect() as connection:
        found: datetime = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
    time.sleep(0.002)
    return found.replace(tzinfo=UTC)


def told(view: AddressView) -> tuple[str, str | None, str | None]:
    return view.state, view.owner, view.node


def test_who_held_an_address_at_five_past_two(asked: Asked):
    before = now(asked)
    first = asked.attach("bank/api-0", "n1", addresses=["10.1.0.50"], container_id="c1")
    one = now(asked)
    asked.release(first.attachment_id)
    between = now(asked)
    asked.pass_time(0)
    second = asked.attach("bank/api-0", "n2", addresses=["10.1.0.50"])
    two = now(asked)
    assert unknown(asked, "10.1.0.50", before).code == "address_unknown"
    then = show(asked, "10.1.0.50", one)
    assert told(then) == ("attached", "bank/api-0", "n1")
    assert (then.container_id, then.attachment_id, then.mac) == ("c1", first.attachment_id, first.mac)
    assert told(show(asked, "10.1.0.50", between)) == ("free", None, None)
    assert told(show(asked, "10.1.0.50", two)) == ("attached", "bank/api-0", "n2")
    assert show(asked, "10.1.0.50", two).attachment_id == second.attachment_id
    assert told(show(asked, "10.1.0.50", two + timedelta(hours=1))) == ("attached", "bank/api-0", "n2")
    assert show(asked, "10.1.0.50", then.since) == then


def test_each_event_leaves_the_address_in_the_state_that_it_was_really_in(asked: Asked, engine: Engine):
    address, seen = "10.1.0.10", []

    def look() -> None:
        live = show(asked, address)
        owner = None if live.state == "free" else live.owner
        seen.append((now(asked), (live.state, owner, live.node)))

    asked.reply(asked.make(AddressReserve, owner="shop/web-0", addresses=[address]))
    look()
    asked.attach("shop/web-0", "n1")
    look()
    taking = asked.attach("shop/web-0", "n1")
    look()
    asked.release(taking.attachment_id)
    look()
    asked.reply(asked.make(AddressRebind, owner="shop/web-0", addresses=["10.1.0.12"]))
    look()
    asked.reply(asked.make(AddressReserve, owner="shop/web-1", addresses=["10.1.0.11"]))
    asked.reply(asked.make(AddressRebind, owner="shop/web-1", addresses=[address]))
    look()
    bad = asked.attach("shop/web-1", "n2")
    body = {"attachment_id": bad.attachment_id, "node": "n2", "address": address, "reason": "heard"}
    asked.reply(asked.make(AddressQuarantine, **body))
    look()
    for _ in range(2):
        asked.reply(asked.make(AddressReleaseByOperator, address=address, reason="x"))
        look()
    declare_restored(engine)
    item = {"attachment_id": uuid4(), "network": "prod", "owner": "shop/web-7", "container_id": "c"}
    item |= {"ifname": "eth0", "addresses": [address], "mac": "02:00:00:00:00:07"}
    details = (NodeAttachment.model_validate(item),)
    asked.reply(NodeSync(node="n1", session=asked.sessions["n1"], details=details))
    look()
    assert [state for _, (state, _, _) in seen] == [
        "waiting",
        "attached",
        "attached",
        "waiting",
        "free",
        "waiting",
        "quarantined",
        "waiting",
        "free",
        "attached",
    ]
    for at, live in seen:
        assert told(show(asked, address, at)) == live


def test_an_address_of_a_pool_that_is_gone_is_still_known_then(asked: Asked):
    held = asked.attach("shop/web-0")
    then = now(asked)
    asked.release(held.attachment_id)
    asked.reply(asked.make(AddressReleaseByOperator, address=only(held), reason="x"))
    asked.reply(asked.make(PoolDelete, pool="web"))
    assert (show(asked, only(held), then).pool, show(asked, only(held)).pool) == ("web", "default")


def test_an_address_now_is_as_its_row_says_and_one_never_used_is_unknown(asked: Asked):
    held = asked.attach("shop/web-0", "n1")
    assert told(show(asked, only(held))) == ("attached", "shop/web-0", "n1")
    error = asked.refusal(asked.make(AddressShow, address="10.1.0.55"))
    assert error.code == "address_unknown"
    assert unknown(asked, "10.1.0.55", now(asked)).code == "address_unknown"


# Lists and history.


def listed(asked: Asked, limit: int, **filters: Any) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        answer = asked.reply(asked.make(AddressList, limit=limit, after=after, **filters))
        assert len(answer.addresses) <= limit
        found += [str(view.address) for view in answer.addresses]
        after = answer.next
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 500])
def test_addresses_are_listed_in_order_by_any_filter_and_page(asked: Asked, limit: int):
    fill(asked)
    everything = [f"10.1.0.{number}" for number in (2, 3, 10, 11, 12, 50, 51)]
    assert listed(asked, limit) == everything
    assert listed(asked, limit, pool="web") == everything[2:5]
    assert listed(asked, limit, pool="default") == everything[:2] + everything[5:]
    assert listed(asked, limit, pool="nope") == []
    assert listed(asked, limit, state="attached") == everything[:3]
    assert listed(asked, limit, state="free") == everything[5:]
    assert listed(asked, limit, node="n1") == everything[:3]
    assert listed(asked, limit, owner="shop/web-1") == ["10.1.0.11"]


def story(asked: Asked, limit: int = 500, **filters: Any) -> list[HistoryRow]:
    found: list[HistoryRow] = []
    after: str | None = None
    while True:
        query = asked.make(HistoryList, limit=limit, after=after, **filters)
        answer = asked.reply(query)
        assert len(answer.rows) <= limit
        found += answer.rows
        after = answer.next
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 500])
def test_history_is_paged_both_ways_without_a_gap(asked: Asked, limit: int):
    fill(asked)
    oldest_first = story(asked, limit)
    assert [row.seq for row in oldest_first] == sorted({row.seq for row in oldest_first})
    assert len(oldest_first) == len(asked.history())
    newest_first = story(asked, limit, newest_first=True)
    assert newest_first == oldest_first[::-1]


@pytest.mark.parametrize("newest_first", [False, True])
def test_history_is_narrowed_by_each_filter(asked: Asked, newest_first: bool):
    held = asked.attach("shop/web-0", "n1", container_id="c7")
    asked.attach("shop/web-1", "n2")
    middle = now(asked)
    asked.release(held.attachment_id)
    everything = story(asked)

    def events(**filters: Any) -> list[str]:
        rows = story(asked, 1, newest_first=newest_first, **filters)
        ordered = rows[::-1] if newest_first else rows
        return [f"{row.event} {row.owner}" for row in ordered]

    both = ["address.attached shop/web-0", "address.waiting shop/web-0"]
    assert events(address=ip_address("10.1.0.10")) == both
    assert events(owner="shop/web-0") == both
    assert events(container_id="c7") == both
    assert events(attachment_id=held.attachment_id) == both
    assert events(node="n2") == ["address.attached shop/web-1"]
    assert events(since=middle) == both[1:]
    assert len(events(until=middle)) == len(everything) - 1
    assert events(owner="shop/web-0", until=middle) == both[:1]
    assert events(owner="shop/web-9") == []


def test_history_outlives_its_network_and_knows_no_other(asked: Asked):
    assert asked.refusal(asked.make(HistoryList, network="nowhere")).code == "network_unknown"
    assert asked.refusal(asked.make(HistoryList, after="second")).code == "invalid_request"
    assert [row.event for row in story(asked, network="_system")] == ["node.ready", "node.ready"]
