"""Pinned addresses of owners that stay away, on the real database."""

from collections.abc import Callable
from functools import partial
from threading import Barrier, Thread

import pytest
from sqlalchemy import Connection, Engine, text

from allocator import expiry
from allocator.restoring import declare_restored, resume
from allocator.work import Work
from broker.outcome import Reply
from schemas.address import AddressQuarantine, AddressRelease, AddressReserve
from schemas.pool import PoolUpdate
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services

HOUR = 3600


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod with pool web, which keeps addresses for an hour, and db, which keeps them for ever."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"], retain_s=HOUR)
    made.pool("db", "10.1.0.20-10.1.0.29", owners=["shop/db-*"])
    return made


def gone(asked: Asked, owner: str, seconds: int, **fields: object) -> str:
    """The address of an owner that is away for so long."""
    held = asked.attach(owner, **fields)
    asked.release(held.attachment_id)
    asked.pass_time(seconds)
    return only(held)


def states(asked: Asked) -> dict[str, str]:
    asked.check_used()
    return {str(row.address): row.state for row in asked.addresses()}


def test_an_owner_that_stays_away_too_long_loses_its_address_and_history_says_why(asked: Asked):
    address = gone(asked, "shop/web-0", HOUR + 1)
    asked.timers.tick()
    assert states(asked) == {address: "free"}
    row = asked.history(address=address)[-1]
    assert (row.event, row.owner, row.mac, row.pool, row.user_id, row.details) == (
        "address.freed",
        "shop/web-0",
        "0a:58:0a:01:00:0a",
        "web",
        "allocator",
        {"retain": True},
    )
    told = len(asked.history())
    asked.timers.tick()
    assert len(asked.history()) == told
    assert only(asked.attach("shop/web-1", addresses=[address])) == address


def test_an_address_is_kept_until_its_time_is_over(asked: Asked):
    address = gone(asked, "shop/web-0", HOUR - 60)
    asked.timers.tick()
    assert states(asked) == {address: "waiting"}
    asked.pass_time(61)
    asked.timers.tick()
    assert states(asked) == {address: "free"}


def test_a_pool_without_a_limit_keeps_addresses_for_ever(asked: Asked):
    address = gone(asked, "shop/db-0", 10 * 365 * 24 * HOUR)
    asked.timers.tick()
    assert states(asked) == {address: "waiting"}


def test_only_waiting_addresses_are_freed(asked: Asked):
    asked.attach("shop/web-0", addresses=["10.1.0.10"])
    bad = asked.attach("shop/web-1", addresses=["10.1.0.11"])
    body = {"node": "n1", "attachment_id": bad.attachment_id, "address": "10.1.0.11", "reason": "heard"}
    asked.reply(asked.make(AddressQuarantine, **body))
    asked.reply(asked.make(AddressReserve, owner="shop/web-2", addresses=["10.1.0.12"]))
    asked.pass_time(HOUR + 1)
    asked.timers.tick()
    assert states(asked) == {"10.1.0.10": "attached", "10.1.0.11": "quarantined", "10.1.0.12": "free"}


def test_both_families_of_an_owner_are_freed(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/24", "fd00:1::/64")
    asked.pool("web", "10.1.0.10-10.1.0.19", "fd00:1::10-fd00:1::19", retain_s=HOUR)
    held = asked.attach("shop/web-0", pool="web")
    asked.release(held.attachment_id)
    asked.pass_time(HOUR + 1)
    asked.timers.tick()
    assert states(asked) == {"10.1.0.10": "free", "fd00:1::10": "free"}


def test_another_limit_counts_for_those_that_are_away_already(asked: Asked):
    address = gone(asked, "shop/db-0", 100)
    asked.reply(asked.make(PoolUpdate, pool="db", retain_s=99))
    asked.timers.tick()
    assert states(asked) == {address: "free"}
    other = gone(asked, "shop/web-0", HOUR + 1)
    asked.reply(asked.make(PoolUpdate, pool="web", retain_s=0))  # for ever
    asked.timers.tick()
    assert states(asked)[other] == "waiting"


def test_nothing_is_freed_while_the_nodes_tell_what_they_have(asked: Asked, engine: Engine):
    address = gone(asked, "shop/web-0", HOUR + 1)
    ((network, pool_id),) = asked.database.run(expiry.due)
    declare_restored(engine)
    assert asked.database.run(expiry.due) == []
    asked.database.run(partial(expiry.free_of, network=network, pool_id=pool_id))
    asked.timers.tick()
    assert states(asked) == {address: "waiting"}
    resume(engine)
    asked.timers.tick()
    assert states(asked) == {address: "free"}


def test_many_are_freed_a_hundred_at_a_time(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/16")
    asked.pool("web", "10.1.1.0-10.1.1.199", retain_s=HOUR)
    batch = [asked.ask(f"shop/web-{number}", pool="web") for number in range(150)]
    assert all(isinstance(outcome, Reply) for outcome in asked.together(*batch))
    fields = {"network", "node", "container_id", "ifname", "attachment_id"}
    asked.together(*(AddressRelease.model_validate(ask.model_dump(include=fields)) for ask in batch))
    asked.pass_time(HOUR + 1)
    left = []
    for _ in range(3):
        asked.timers.tick()
        left.append(asked.check_used())
    assert left == [50, 0, 0]


# An owner that comes back at that very moment.


def test_an_owner_that_is_back_before_the_network_is_locked_keeps_its_address(asked: Asked):
    address = gone(asked, "shop/web-0", HOUR + 1)
    ((network, pool_id),) = asked.database.run(expiry.due)
    assert only(asked.attach("shop/web-0")) == address
    committed = asked.database.run(partial(expiry.free_of, network=network, pool_id=pool_id))
    assert not committed.networks
    assert states(asked) == {address: "attached"}


def test_an_owner_that_is_back_a_moment_too_late_gets_its_address_and_mac_all_the_same(asked: Asked):
    address = gone(asked, "shop/web-0", HOUR + 1)
    asked.attach("shop/web-1")
    asked.timers.tick()
    assert states(asked)[address] == "free"
    back = asked.attach("shop/web-0", "n2")
    assert (only(back), back.mac) == (address, "0a:58:0a:01:00:0a")
    events = [row.event for row in asked.history(address=address)]
    assert events == ["address.attached", "address.waiting", "address.freed", "address.attached"]


def test_a_pool_that_was_deleted_or_keeps_for_ever_by_now_is_left_alone(asked: Asked):
    gone(asked, "shop/web-0", HOUR + 1)
    ((network, pool_id),) = asked.database.run(expiry.due)
    asked.reply(asked.make(PoolUpdate, pool="web", retain_s=0))
    for name, number in ((network, pool_id), (network, pool_id + 99), ("nowhere", pool_id)):
        assert not asked.database.run(partial(expiry.free_of, network=name, pool_id=number)).networks
    assert set(states(asked).values()) == {"waiting"}


def test_allocators_and_a_returning_owner_at_once_agree(asked: Asked, engine: Engine):
    address = gone(asked, "shop/web-0", HOUR + 1)
    others = [gone(asked, f"shop/web-{number}", HOUR + 1) for number in range(1, 6)]
    second = Asked(engine, nodes=())
    start = Barrier(4)

    def at_once(act: Callable[[], object]) -> Thread:
        def run() -> None:
            start.wait()
            act()

        return Thread(target=run)

    threads = [at_once(asked.timers.tick), at_once(second.timers.tick)]
    threads += [at_once(lambda: asked.attach("shop/web-0")), at_once(second.timers.tick)]
    with engine.begin() as holder:  # all of them meet a locked network
        Work(holder).lock(["prod"])
        for thread in threads:
            thread.start()
        holder.execute(text("SELECT SLEEP(0.3)"))
    for thread in threads:
        thread.join(30)
    found = states(asked)
    assert found.pop(address) == "attached"
    assert found == dict.fromkeys(others, "free")
    for other in others:
        assert [row.event for row in asked.history(address=other)].count("address.freed") == 1


def test_looking_for_overdue_addresses_reads_no_more_rows_the_more_there_are(asked: Asked, engine: Engine):
    read = []
    for number in range(6):
        gone(asked, f"shop/web-{number}", 10)
        with engine.connect() as connection:
            before = rows_read(connection)
            assert expiry.due(connection) == []
            read.append(rows_read(connection) - before)
    assert read == [read[0]] * 6


def rows_read(connection: Connection) -> int:
    """How many rows this connection has read so far, be it by an index or not."""
    counters = connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read_%'"))
    return sum(int(value) for _, value in counters)
