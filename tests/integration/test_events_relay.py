"""History becomes events: all of it, in order, whoever is killed or away meanwhile."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from uuid import uuid4

import pytest
from sqlalchemy import Engine, delete, update
from structlog.testing import capture_logs

from allocator import tables as t
from allocator.relay import Relay
from compose.services.local import LocalServices
from schemas.errors import Code, ServiceError
from schemas.fields import SYSTEM_NETWORK
from schemas.history import Events
from tests.integration.allocating import Asked
from tests.integration.brokering import until
from tests.integration.relaying import (
    Recorder,
    first_seen,
    network,
    relaying,
    seqs_of,
    unrelayed,
    write,
)

pytestmark = pytest.mark.services


class Killed(BaseException):
    """The process is gone: nothing after this point happens."""


async def test_what_a_commit_touched_is_relayed_once_and_in_order(engine: Engine):
    prod, exchange = network(engine), Recorder()
    async with relaying(engine, exchange) as relay:
        for count in (1, 3, 2):
            write(engine, prod, count)
            relay.touched([prod])
        await until(lambda: unrelayed(engine) == 0)
    assert exchange.seqs() == seqs_of(engine, prod)
    assert len(exchange.taken) < 3, "what comes close together travels together"


async def test_an_event_says_what_history_says(engine: Engine):
    prod, exchange = network(engine), Recorder()
    for address in ("10.1.0.10", "fd00:1::10"):
        write(
            engine,
            prod,
            event="address.attached",
            at=datetime(2026, 3, 1, 14, 5, 0, 1),
            pool="api",
            address=ip_address(address),
            owner="bank/api-0",
            mac="0a:58:0a:01:00:0a",
            ifname="eth\u00fc",
            node="n1",
            container_id="c" * 64,
            attachment_id=uuid4(),
            user_id="node.n1",
            actor="%s 'somebody'",
            details={"replaces": [str(uuid4())], "total": 1 << 128},
        )
    write(engine, prod)
    async with relaying(engine, exchange) as relay:
        relay.touched([prod])
        await until(lambda: unrelayed(engine) == 0)
    asked = Asked(engine, nodes=())
    assert exchange.rows() == asked.history()


async def test_a_long_history_travels_in_pages_that_name_what_precedes_them(engine: Engine):
    prod, exchange = network(engine), Recorder()
    seqs = write(engine, prod, 1500, owner="bank/api-0", container_id="c" * 64, user_id="node.n1")
    async with relaying(engine, exchange) as relay:
        relay.touched([prod])
        await until(lambda: unrelayed(engine) == 0)
    assert exchange.seqs() == seqs
    assert all(len(events.rows) <= 200 for events in exchange.taken)
    ends = [events.rows[-1].seq for events in exchange.taken]
    assert [events.after for events in exchange.taken] == [seqs[0] - 1, *ends[:-1]]


async def test_what_a_killed_allocator_left_behind_is_found_by_another(engine: Engine):
    ids = {name: network(engine, name) for name in ("one", "two")}
    gone = network(engine, "gone", state="deleted")
    with engine.connect() as connection:
        system = connection.execute(t.networks.select().where(t.networks.c.state == "system")).one().id
    ids |= {"gone": gone, SYSTEM_NETWORK: system}
    for network_id in ids.values():
        write(engine, network_id, 2)
    exchange = Recorder()
    async with relaying(engine, exchange):
        await until(lambda: unrelayed(engine) == 0)
    for name, network_id in ids.items():
        assert exchange.seqs(name) == seqs_of(engine, network_id)


async def test_a_busy_network_is_left_to_the_allocator_that_moves_it(engine: Engine):
    prod, own, others = network(engine), Recorder(), Recorder()
    async with relaying(engine, own) as relay, relaying(engine, others):
        for _ in range(40):
            write(engine, prod)
            relay.touched([prod])
            await asyncio.sleep(0.1)  # traffic: longer than a position may stand still
        await until(lambda: unrelayed(engine) == 0)
    assert own.seqs() == seqs_of(engine, prod)
    assert others.taken == []


class KilledBeforeTheNote(Relay):
    """Dies when all is published and nothing is written down."""

    def _advance(self, sent: Sequence[object]) -> list[object]:  # type: ignore[override]
        raise Killed


async def test_killed_between_publishing_and_noting_it_sends_again_and_keeps_the_order(engine: Engine):
    prod, exchange = network(engine), Recorder()
    seqs = write(engine, prod, 300)
    async with relaying(engine, exchange, KilledBeforeTheNote) as relay:
        relay.touched([prod])
        await until(lambda: len(exchange.seqs()) == 300)
    assert unrelayed(engine) == 1
    seqs += write(engine, prod, 5)
    async with relaying(engine, exchange):
        await until(lambda: unrelayed(engine) == 0)
    assert exchange.seqs() == [*seqs[:300], *seqs]
    assert first_seen(exchange.seqs()) == seqs


async def test_killed_between_two_pages_it_sends_both_again(engine: Engine):
    async def die_at_the_second(events: Events) -> None:
        if events.after != seqs[0] - 1:
            raise Killed

    prod, exchange = network(engine), Recorder(die_at_the_second)
    seqs = write(engine, prod, 300)
    async with relaying(engine, exchange) as relay:
        relay.touched([prod])
        await until(lambda: bool(exchange.taken))
    exchange.act = None
    async with relaying(engine, exchange):
        await until(lambda: unrelayed(engine) == 0)
    assert len(exchange.seqs()) > 300
    assert first_seen(exchange.seqs()) == seqs


async def test_two_allocators_at_one_network_send_rows_twice_and_never_out_of_order(engine: Engine):
    met, sending = asyncio.Event(), [0]

    async def slow(_: Events) -> None:
        sending[0] += 1
        if sending[0] == 2:
            met.set()
        await met.wait()  # no position moves before both are at the same rows
        await asyncio.sleep(0.03)
        sending[0] -= 1

    prod, exchange = network(engine), Recorder(slow)
    async with relaying(engine, exchange) as one, relaying(engine, exchange) as other:
        for _ in range(6):
            met.clear()
            for _ in range(10):
                write(engine, prod, 7)
                one.touched([prod])
                other.touched([prod])
                await asyncio.sleep(0.01)
            await until(lambda: unrelayed(engine) == 0)
    assert len(exchange.seqs()) > len(seqs_of(engine, prod)), "they did overlap"
    assert first_seen(exchange.seqs()) == seqs_of(engine, prod)


async def test_a_broker_that_is_away_is_waited_for_and_nothing_is_lost(engine: Engine):
    tries: list[int] = []

    async def away(_: Events) -> None:
        tries.append(1)
        raise ServiceError(Code.UNAVAILABLE, "no broker")

    prod, exchange = network(engine), Recorder(away)
    async with relaying(engine, exchange) as relay:
        write(engine, prod, 2)
        relay.touched([prod])
        await until(lambda: len(tries) >= 3)
        write(engine, prod, 2)
        exchange.act = None
        await until(lambda: unrelayed(engine) == 0)
    assert exchange.seqs() == seqs_of(engine, prod)


async def test_a_network_that_cannot_be_relayed_holds_up_no_other(engine: Engine):
    async def refuse_one(events: Events) -> None:
        if events.network == "bad":
            raise RuntimeError("nobody expected this")

    bad, good = network(engine, "bad"), network(engine, "good")
    exchange = Recorder(refuse_one)
    async with relaying(engine, exchange) as relay:
        for _ in range(3):
            write(engine, bad)
            write(engine, good)
            relay.touched([bad, good])
            await until(lambda: exchange.seqs("good") == seqs_of(engine, good))
    assert exchange.seqs("bad") == []


async def test_a_database_that_is_killed_is_waited_for(engine: Engine, services: LocalServices):
    prod, exchange = network(engine), Recorder()
    write(engine, prod)
    async with relaying(engine, exchange) as relay:
        await asyncio.to_thread(services.mariadb.kill)
        try:
            with capture_logs() as logs:
                relay.touched([prod])
                await until(lambda: any(entry["event"] == "events wait" for entry in logs))
        finally:
            await asyncio.to_thread(services.mariadb.start)
        write(engine, prod)
        await until(lambda: unrelayed(engine) == 0)
    assert first_seen(exchange.seqs()) == seqs_of(engine, prod)


async def test_a_row_too_large_for_a_message_goes_without_its_details(engine: Engine):
    prod, exchange = network(engine), Recorder()
    write(engine, prod)
    (large,) = write(engine, prod, details={"text": "x" * 70_000}, owner="bank/api-0")
    write(engine, prod)
    async with relaying(engine, exchange) as relay:
        relay.touched([prod])
        await until(lambda: unrelayed(engine) == 0)
    assert exchange.seqs() == seqs_of(engine, prod)
    (row,) = [row for row in exchange.rows() if row.seq == large]
    assert (row.owner, row.event, row.details) == ("bank/api-0", "address.freed", {"omitted": True})


async def test_a_position_behind_which_there_is_no_history_moves_on(engine: Engine):
    prod, exchange = network(engine), Recorder()
    write(engine, prod, 3)
    with engine.begin() as connection:
        connection.execute(delete(t.history))
    async with relaying(engine, exchange):
        await until(lambda: unrelayed(engine) == 0)
        seqs = write(engine, prod)
        await until(lambda: unrelayed(engine) == 0)
    assert exchange.seqs() == seqs


async def test_a_position_that_went_back_sends_again_from_there(engine: Engine):
    """As after a restore of the database: what readers have seen they drop."""
    prod, exchange = network(engine), Recorder()
    seqs = write(engine, prod, 4)
    async with relaying(engine, exchange):
        await until(lambda: unrelayed(engine) == 0)
        with engine.begin() as connection:
            connection.execute(update(t.networks).where(t.networks.c.id == prod).values(relayed_seq=seqs[1]))
        await until(lambda: unrelayed(engine) == 0)
    assert exchange.seqs() == [*seqs, *seqs[2:]]
