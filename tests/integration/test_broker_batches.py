"""How requests are taken on a real RabbitMQ: in batches and in order, retried, acked last."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from broker import topology
from broker.consumer import Delivery, QueuePlan, Refused
from broker.intake import Intake
from broker.management import Management
from schemas.errors import Code, ServiceError
from schemas.network import NetworkList
from schemas.node import NodeHeartbeat
from tests.integration.brokering import (
    PARTITION_QUEUE,
    PLAN,
    QUERY_PLAN,
    Broker,
    Script,
    anybody,
    consuming,
    hand,
    nothing_left,
    ready,
    release,
    take,
    until,
)

pytestmark = pytest.mark.services

REPLY = topology.REPLY_QUEUE
NO = ServiceError(Code.EXHAUSTED, "no address left in pool web")


async def test_a_failure_that_passes_is_retried_and_served(broker: Broker) -> None:
    failures = iter([ValueError("once"), ValueError("twice")])

    def act(_: Delivery) -> None:
        for failure in failures:
            raise failure

    script = Script(act)
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release("c1"), answer_to=REPLY)
        assert (await sender.answer()).error is None
    assert script.applied == ["c1"]
    await nothing_left(broker)


async def test_many_requests_are_served_in_batches_and_in_order(broker: Broker) -> None:
    script = Script()
    wanted = [f"c{i:03}" for i in range(100)]
    async with hand(broker.node) as sender:
        for container in wanted:
            await sender.publish(release(container))
        async with consuming(broker, script):
            await until(lambda: len(script.applied) == 100)
    assert script.applied == wanted
    assert max(script.batches) <= PLAN.batch
    assert len(script.batches) < 50
    await nothing_left(broker)


@pytest.mark.parametrize("answer_to", [REPLY, None], ids=["awaited", "not awaited"])
@pytest.mark.parametrize(
    ("body", "act"),
    [
        (b"{", None),
        (None, lambda _: Refused(NO)),
        (None, lambda _: 1 / 0),
    ],
    ids=["unreadable", "refused", "failing"],
)
async def test_a_query_is_never_a_dead_letter(
    broker: Broker, body: bytes | None, act: Callable[[Delivery], Any], answer_to: str | None
) -> None:
    script = Script(act)
    async with hand(broker.producer) as sender, consuming(broker, script, QUERY_PLAN):
        await sender.publish(NetworkList(), body=body, answer_to=answer_to)
        if answer_to:
            assert (await sender.answer()).error is not None
        # A second one shows that the first is done with.
        await sender.publish(NetworkList(), body=b"{", answer_to=REPLY)
        assert (await sender.answer()).error is not None
    assert await ready(broker, topology.QUERIES_QUEUE) == 0
    await nothing_left(broker)


async def test_without_a_place_for_dead_letters_nothing_is_acked_until_there_is_one(
    own_broker: Broker,
) -> None:
    broker = own_broker
    script = Script()
    with Management(broker.management_url) as api:
        api.delete("exchanges", broker.vhost, topology.DEAD)
        async with hand(broker.node) as sender:
            await sender.publish(release("bad"), body=b"{")
            await sender.publish(release("good"))
        async with consuming(broker, script):
            await until(lambda: script.calls >= 2)
        assert await ready(broker, PARTITION_QUEUE) == 2, "both came back"
        api.put("exchanges", broker.vhost, topology.DEAD, body={"type": "fanout", "durable": True})
        body = {"routing_key": "", "arguments": {}}
        api.post("bindings", broker.vhost, "e", topology.DEAD, "q", topology.DEAD, body=body)
    calls = script.calls
    async with consuming(broker, script):
        [letter] = await take(broker, topology.DEAD, 1)
        await until(lambda: script.calls > calls)
    assert letter.body == b"{"
    assert set(script.applied) == {"good"}
    await nothing_left(broker)


async def test_the_reply_goes_out_before_the_ack_and_the_ack_comes_last(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    acking = asyncio.Event()

    def ack(_: Any, message: Any) -> None:
        acking.set()

    script = Script()
    async with hand(broker.node) as sender:
        with monkeypatch.context() as patched:
            patched.setattr(Intake, "ack", ack)
            async with consuming(broker, script):
                await sender.publish(release("c1"), answer_to=REPLY)
                assert (await sender.answer()).error is None
                await asyncio.wait_for(acking.wait(), 5)
        # The consumer died between reply and ack: the request comes again and is answered again.
        async with consuming(broker, script):
            assert (await sender.answer()).error is None
    assert script.applied == ["c1", "c1"]
    await nothing_left(broker)


async def test_a_stopped_consumer_answers_what_it_began_and_gives_the_rest_back(broker: Broker) -> None:
    entered, leave = threading.Event(), threading.Event()

    def act(_: Delivery) -> None:
        entered.set()
        leave.wait(10)

    script = Script(act)
    async with hand(broker.node) as sender:
        await sender.publish(release("c1"), answer_to=REPLY)
        async with consuming(broker, script) as task:
            await until(entered.is_set)
            await sender.publish(release("c2"))
            task.cancel()
            await asyncio.sleep(0.1)
            assert not task.done(), "the thread is not left behind"
            leave.set()
            await asyncio.wait([task], timeout=5)
            assert task.done()
        assert (await sender.answer()).error is None
    assert script.applied == ["c1"]
    assert await ready(broker, PARTITION_QUEUE) == 1, "only the other one comes again"


@pytest.mark.parametrize("answer_to", [REPLY, None], ids=["awaited", "not awaited"])
@pytest.mark.parametrize("field", ["correlation_id", "message_id", "content_type", "app_id"])
async def test_properties_that_are_no_text_are_a_dead_letter_and_harm_nobody_else(
    broker: Broker, field: str, answer_to: str | None
) -> None:
    """aio-pika would lose its connection over them, again and again, with all that was prefetched."""
    script = Script()
    others = [f"c{i}" for i in range(20)]
    async with hand(broker.node) as sender:
        await sender.publish(release("bad"), answer_to=answer_to, **{field: _NotText("\udcffx\udcfe")})
        for container in others:
            await sender.publish(release(container))
        async with consuming(broker, script):
            [letter] = await take(broker, topology.DEAD, 1)
            await until(lambda: len(script.applied) == 20)
        if answer_to:
            assert (await sender.answer()).error.code == Code.UNREADABLE
    assert script.applied == others
    assert letter.headers["x-moorage-code"] == Code.UNREADABLE
    assert letter.headers["x-moorage-sender"] == "node.n1"
    assert getattr(letter, field) == "x"
    await nothing_left(broker)


class _NotText(str):
    """Text that leaves as bytes that are no UTF-8."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", "surrogateescape")


async def test_heartbeats_are_served_by_a_consumer_of_their_own(broker: Broker) -> None:
    script = Script()
    plan = QueuePlan(topology.HEARTBEATS, prefetch=64, batch=64)
    async with hand(broker.node) as sender, consuming(broker, script, plan, authorize=anybody):
        await sender.publish(NodeHeartbeat(node="n1", session=UUID(int=1)), answer_to=REPLY)
        answer = await sender.answer()
    assert json.loads(answer.model_dump_json())["error"] is None
