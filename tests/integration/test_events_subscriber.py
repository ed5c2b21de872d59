"""Events over a real RabbitMQ: who reads them, in which order, and what a broker that goes away costs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiormq.exceptions import ChannelAccessRefused
from sqlalchemy import Engine

from broker import provisioning, topology
from broker.management import Management
from broker.poster import Poster, poster
from broker.subscriber import events
from compose.services.local import LocalServices
from schemas.history import Events
from tests.integration.brokering import LIMIT_S, Broker, hand, provisioned, ready, until
from tests.integration.relaying import first_seen, network, relaying, seqs_of, unrelayed, write

pytestmark = pytest.mark.services

QUEUE = topology.events_queue("operator.test")


def page(*seqs: int, name: str = "prod", after: int | None = None) -> Events:
    rows = [{"network": name, "seq": n, "at": "2026-03-01T14:05:00Z", "event": "node.ready"} for n in seqs]
    return Events.model_validate({"network": name, "after": after, "rows": rows})


async def post(exchange: Poster, *pages: Events) -> None:
    for each in pages:
        await exchange.events(each.network, each.model_dump_json().encode())


@asynccontextmanager
async def posting(broker: Broker) -> AsyncIterator[Poster]:
    """A poster, and a queue of events that is empty."""
    with Management(broker.management_url) as api:
        api.delete("queues", broker.vhost, QUEUE, "contents")
    async with poster(broker.allocator, name="test events") as made:
        yield made


async def take(url: str, count: int) -> list[Events]:
    """The next so many pages; the last of them is not acked."""
    taken: list[Events] = []
    async with asyncio.timeout(LIMIT_S), aclosing(events(url, name="test reader")) as found:
        async for each in found:
            taken.append(each)
            if len(taken) == count:
                break
    return taken


def seqs(pages: list[Events]) -> list[int]:
    return [row.seq for each in pages for row in each.rows]


async def test_a_subscriber_reads_all_networks_in_the_order_of_each(broker: Broker):
    async with posting(broker) as exchange:
        await post(exchange, page(1, 2), page(1, name="_system"), page(3), page(2, name="_system"))
        found = await take(broker.operator, 4)
    assert [(each.network, seqs([each])) for each in found] == [
        ("prod", [1, 2]),
        ("_system", [1]),
        ("prod", [3]),
        ("_system", [2]),
    ]


async def test_rows_that_come_again_are_left_out(broker: Broker):
    async with posting(broker) as exchange:
        await post(exchange, page(1, 2, 5), page(1, 2, 5), page(2, 5, 6), page(6), page(7))
        found = await take(broker.operator, 3)
    assert [seqs([each]) for each in found] == [[1, 2, 5], [6], [7]]


async def test_a_reader_that_dies_over_a_message_gets_it_again(broker: Broker):
    async with posting(broker) as exchange:
        await post(exchange, page(1), page(2), page(3))
        assert seqs(await take(broker.operator, 2)) == [1, 2]
        assert seqs(await take(broker.operator, 2)) == [2, 3]


async def test_what_was_read_is_gone(broker: Broker):
    async with posting(broker) as exchange:
        await post(exchange, page(1), page(2))
        async with aclosing(events(broker.operator, name="test reader")) as found:
            await anext(found)
            await anext(found)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(found), 0.5)
        assert await ready(broker, QUEUE) == 0


async def test_a_page_that_was_never_kept_is_missed_and_told(broker: Broker, capsys: Any):
    async with posting(broker) as exchange:
        await post(exchange, page(1, after=0), page(9, after=8), page(10, after=9))
        assert seqs(await take(broker.operator, 3)) == [1, 9, 10]
    assert capsys.readouterr().out.count("events were missed") == 1


async def test_what_cannot_be_read_is_left_out_and_the_rest_goes_on(broker: Broker):
    newer = page(1, 2, 3).model_dump(mode="json")
    newer["rows"][0]["event"] = "network.painted"  # no word of ours, but one
    newer["rows"][1]["event"] = 7
    async with posting(broker) as exchange:
        for body in (b"\xff", b"7", b"{}", b'{"network": "prod", "rows": 7}'):
            await exchange.events("prod", body)
        await exchange.events("prod", json.dumps(newer).encode())
        await post(exchange, page(4))
        found = await take(broker.operator, 2)
    assert seqs(found) == [1, 3, 4]
    assert found[0].rows[0].event == "network.painted"


async def test_that_nobody_subscribed_is_no_failure(services: LocalServices):
    with provisioned(services.management_url, services.amqp_url) as broker:
        with Management(broker.management_url) as api:
            api.delete("queues", broker.vhost, QUEUE)
        async with poster(broker.allocator, name="test events") as exchange:
            await post(exchange, page(1))


@pytest.mark.parametrize("who", ["node", "producer", "allocator"])
async def test_nobody_else_reads_an_operators_events(broker: Broker, who: str):
    async with hand(getattr(broker, who)) as user:
        queue = await user.channel.get_queue(QUEUE, ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await queue.consume(user.answers.put)


async def test_each_operator_and_console_has_a_queue_of_its_own_and_nobody_else_has_one(broker: Broker):
    known: dict[str, Any] = {"vhost": broker.vhost, "password": "secret"}
    for role in ("operator", "console", "producer"):
        provisioning.enroll_client(broker.management_url, "other", role, **known)
    provisioning.enroll_client(broker.management_url, "other", "operator", **known)
    with Management(broker.management_url) as api:
        names = {queue["name"] for queue in api.get("queues", broker.vhost)}
    assert {name for name in names if name.startswith("moorage.events.")} == {
        QUEUE,
        "moorage.events.operator.other",
        "moorage.events.console.other",
    }
    async with hand(broker.operator) as user:
        other = await user.channel.get_queue("moorage.events.operator.other", ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await other.consume(user.answers.put)


async def test_every_row_arrives_once_and_in_order_though_the_broker_is_killed_and_comes_back(
    services: LocalServices, engine: Engine
):
    async def listen(url: str, read: list[int]) -> None:
        async with aclosing(events(url, name="test reader")) as found:
            async for each in found:
                read.extend(seqs([each]))

    prod = network(engine)
    live: list[int] = []
    kept: list[int] = []
    with provisioned(services.management_url, services.amqp_url, settle_s=5) as broker:
        known: dict[str, Any] = {"vhost": broker.vhost, "password": "secret"}
        late = provisioning.enroll_client(broker.management_url, "late", "console", **known).amqp_url
        async with (
            poster(broker.allocator, name="test events") as exchange,
            relaying(engine, exchange) as relay,
        ):
            readers = [asyncio.create_task(listen(broker.operator, live))]
            write(engine, prod, 10)
            relay.touched([prod])
            await until(lambda: len(live) == 10)
            write(engine, prod, 500)
            relay.touched([prod])
            await asyncio.to_thread(services.rabbitmq.kill)
            try:
                write(engine, prod, 10)
                relay.touched([prod])
            finally:
                await asyncio.to_thread(services.rabbitmq.start)
            write(engine, prod, 10)
            relay.touched([prod])
            await until(lambda: unrelayed(engine) == 0, limit_s=60)
            await until(lambda: len(live) == 530, limit_s=60)
            # What waited for a reader outlived the broker too.
            readers.append(asyncio.create_task(listen(late, kept)))
            await until(lambda: len(kept) == 530)
            for reader in readers:
                reader.cancel()
    assert live == kept == seqs_of(engine, prod) == first_seen(live)
