"""The failure table on a real RabbitMQ: what is answered, what dies, what waits, and that nothing loops."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import aio_pika
import pytest

from broker import topology
from broker.connection import Backoff
from broker.consumer import DEFERRED, Delivery, Dropped, Outcome, QueuePlan, Refused, Unavailable
from broker.management import Management
from compose.services.local import LocalServices
from schemas.errors import Code, ServiceError
from schemas.message import MAX_BODY_BYTES
from schemas.network import NetworkList
from schemas.node import NodeHeartbeat
from tests.integration.brokering import (
    PARTITION_QUEUE,
    PLAN,
    QUERY_PLAN,
    Broker,
    Hand,
    Script,
    anybody,
    consuming,
    empty,
    hand,
    nobody,
    provisioned,
    ready,
    release,
    take,
    until,
)

pytestmark = pytest.mark.services

REPLY = topology.REPLY_QUEUE
NO = ServiceError(Code.EXHAUSTED, "no address left in pool web")


@pytest.fixture(scope="module")
def _provisioned(services: LocalServices) -> Iterator[Broker]:
    with provisioned(services.management_url, services.amqp_url) as made:
        yield made


@pytest.fixture
def broker(_provisioned: Broker) -> Broker:
    """A virtual host with empty queues."""
    empty(_provisioned)
    return _provisioned


@pytest.fixture
def own_broker(services: LocalServices) -> Iterator[Broker]:
    """A virtual host that the test may spoil."""
    with provisioned(services.management_url, services.amqp_url) as made:
        yield made


async def _serves(sender: Hand, script: Script, marker: str = "next") -> None:
    """A good request is served: the consumer went on."""
    await sender.publish(release(marker), answer_to=REPLY)
    answer = await sender.answer()
    assert answer.error is None, answer
    assert script.applied[-1] == marker


async def _nothing_left(broker: Broker) -> None:
    assert await ready(broker, PARTITION_QUEUE) == 0
    assert await ready(broker, topology.DEAD) == 0


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "unreadable": ({"body": b'{"network": '}, Code.UNREADABLE),
    "invalid": ({"body": b'{"network": "prod"}'}, Code.INVALID_REQUEST),
    "unknown request": ({"key": "0.address.explode", "type": "address.explode"}, Code.UNKNOWN_REQUEST),
    "unknown version": ({"headers": {"schema_version": 7}}, Code.UNSUPPORTED_VERSION),
    "too large": ({"body": b" " * (MAX_BODY_BYTES + 1024)}, Code.TOO_LARGE),
    "another type": ({"type": "address.allocate"}, Code.SENDER_FORBIDDEN),
    "no user": ({"user_id": None}, Code.SENDER_FORBIDDEN),
}


@pytest.mark.parametrize("answer_to", [REPLY, None], ids=["awaited", "not awaited"])
@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_no_request_is_a_dead_letter_at_once(
    broker: Broker, what: str, answer_to: str | None
) -> None:
    parts, code = BROKEN[what]
    script = Script()
    plans = [QueuePlan(topology.allocator_queue(p), prefetch=64, batch=16) for p in range(4)]
    async with hand(broker.admin) as sender:
        async with consuming(broker, script, *plans):
            await sender.publish(release("bad"), answer_to=answer_to, **parts)
            [letter] = await take(broker, topology.DEAD, 1)
            if answer_to:
                answer = await sender.answer()
                assert answer.error is not None
                assert answer.error.code == code
            await _serves(sender, script)
        assert sender.answers.empty()
    assert letter.headers["x-moorage-code"] == code
    assert letter.headers["x-moorage-deaths"] == 1
    assert letter.headers["x-moorage-sender"] == ("" if what == "no user" else sender.user)
    assert letter.headers["x-moorage-routing-key"] == parts.get("key", topology.routing_key(release()))
    assert letter.body == parts.get("body", release("bad").model_dump_json().encode())
    assert script.applied == ["next"]
    await _nothing_left(broker)


@pytest.mark.parametrize("answer_to", [REPLY, None], ids=["awaited", "not awaited"])
async def test_a_request_that_is_not_the_senders_to_ask_is_a_dead_letter(
    broker: Broker, answer_to: str | None
) -> None:
    script = Script()
    async with hand(broker.node) as sender, consuming(broker, script, authorize=nobody):
        await sender.publish(release(), answer_to=answer_to)
        [letter] = await take(broker, topology.DEAD, 1)
        if answer_to:
            answer = await sender.answer()
            assert answer.error is not None
            assert answer.error.code == Code.SENDER_FORBIDDEN
    assert letter.headers["x-moorage-sender"] == "node.n1"
    assert script.applied == []
    await _nothing_left(broker)


@pytest.mark.parametrize(
    "foreign", ["moorage.node.n1", "moorage.dead", PARTITION_QUEUE, "amq.rabbitmq.reply-to.aaaa.bbbb"]
)
async def test_an_answer_never_goes_to_a_queue_that_the_sender_names(broker: Broker, foreign: str) -> None:
    script = Script()
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release("bad"), answer_to=foreign)
        [letter] = await take(broker, topology.DEAD, 1)
        await _serves(sender, script)
    assert letter.headers["x-moorage-code"] == Code.SENDER_FORBIDDEN
    assert script.applied == ["next"]
    assert await ready(broker, "moorage.node.n1") == 0
    await _nothing_left(broker)


async def test_a_business_no_is_answered_and_no_dead_letter(broker: Broker) -> None:
    script = Script(lambda d: Refused(NO) if d.request == release("full") else None)
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release("full"), answer_to=REPLY)
        answer = await sender.answer()
        await _serves(sender, script)
    assert answer.error is not None
    assert (answer.error.code, answer.error.message) == (NO.code, NO.message)
    await _nothing_left(broker)


async def test_a_business_no_that_nobody_awaits_is_kept_with_its_reason(broker: Broker) -> None:
    script = Script(lambda _: Refused(NO))
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release("full"))
        [letter] = await take(broker, topology.DEAD, 1)
    assert letter.headers["x-moorage-code"] == NO.code
    assert letter.headers["x-moorage-reason"] == NO.message
    await _nothing_left(broker)


async def test_a_replayed_letter_that_dies_again_is_counted_once_more(broker: Broker) -> None:
    script = Script(lambda _: Refused(NO))
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release())
        [first] = await take(broker, topology.DEAD, 1)
        await sender.publish(release(), body=first.body, headers=dict(first.headers))
        [second] = await take(broker, topology.DEAD, 1)
    assert second.headers["x-moorage-deaths"] == 2
    assert second.headers["x-moorage-first-death"] == first.headers["x-moorage-first-death"]
    assert second.body == first.body
    await _nothing_left(broker)


@pytest.mark.parametrize("outcome", [DEFERRED, Dropped("the deadline passed")])
async def test_what_is_deferred_or_dropped_is_acked_and_not_answered(
    broker: Broker, outcome: Outcome
) -> None:
    script = Script(lambda d: outcome if d.request == release("later") else None)
    async with hand(broker.node) as sender:
        async with consuming(broker, script):
            await sender.publish(release("later"), answer_to=REPLY)
            await _serves(sender, script)
        assert sender.answers.empty()
    assert script.applied == ["later", "next"]
    await _nothing_left(broker)


async def test_while_the_database_is_away_nothing_is_lost_and_nothing_spins(broker: Broker) -> None:
    away = threading.Event()
    away.set()

    def act(_: Delivery) -> None:
        if away.is_set():
            raise Unavailable("the database is away")

    script = _Away(act)
    wanted = [f"c{i:02}" for i in range(30)]
    async with hand(broker.node) as sender:
        async with consuming(broker, script):
            for container in wanted:
                await sender.publish(release(container))
            await until(lambda: script.calls >= 3)
            # Given back, not kept: another consumer could have them.
            await until(lambda: _is(ready(broker, PARTITION_QUEUE), 30))
            calls = script.calls
            await asyncio.sleep(1)
            assert script.calls - calls <= 6, "it asks again at its leisure"
            away.clear()
            await until(lambda: len(script.applied) == 30)
        assert script.applied == wanted
    await _nothing_left(broker)


class _Away(Script):
    """A service that is as unable with nothing to do as with something, like a database that is down."""

    def __call__(self, deliveries: Any) -> list[Outcome]:
        if not deliveries:
            self.calls += 1
            self.act(deliveries)
            return []
        return super().__call__(deliveries)


async def _is(found: Any, wanted: int) -> bool:
    return bool(await found == wanted)


async def test_a_database_that_only_refuses_to_write_wears_no_message_out(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing to do it seems well, so messages come and go; they must not reach their delivery limit."""
    monkeypatch.setattr("broker.consumer.Backoff", lambda longest_s: Backoff(0.02, 0.05))
    readonly = threading.Event()
    readonly.set()

    def act(_: Delivery) -> None:
        if readonly.is_set():
            raise Unavailable("read-only")

    script = Script(act)
    async with hand(broker.node) as sender:
        await sender.publish(release("patient"))
    async with consuming(broker, script):
        await until(lambda: script.calls >= 50)
        readonly.clear()
        await until(lambda: script.applied == ["patient"])
    await _nothing_left(broker)


async def test_a_poison_request_in_a_batch_harms_only_itself(broker: Broker) -> None:
    def act(delivery: Delivery) -> None:
        if delivery.request == release("poison"):
            raise ZeroDivisionError("cannot divide by zero")

    script = Script(act)
    wanted = [f"c{i}" for i in range(8)]
    async with hand(broker.node) as sender:
        for container in [*wanted[:4], "poison", *wanted[4:]]:
            await sender.publish(release(container), answer_to=REPLY)
        async with consuming(broker, script):
            answers = [await sender.answer() for _ in range(9)]
            [letter] = await take(broker, topology.DEAD, 1)
    assert sorted(script.applied) == wanted, "each was applied once"
    errors = [answer.error.code for answer in answers if answer.error is not None]
    assert errors == [Code.INTERNAL]
    assert letter.body == release("poison").model_dump_json().encode()
    assert "ZeroDivisionError" in str(letter.headers["x-moorage-reason"])
    await _nothing_left(broker)


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
    await _nothing_left(broker)


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
    await _nothing_left(broker)


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
    await _nothing_left(broker)


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
    await _nothing_left(broker)


async def test_the_reply_goes_out_before_the_ack_and_the_ack_comes_last(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    acking, never = asyncio.Event(), asyncio.Event()

    async def ack(_: Any, multiple: bool = False) -> None:
        acking.set()
        await never.wait()

    script = Script()
    async with hand(broker.node) as sender:
        with monkeypatch.context() as patched:
            patched.setattr(aio_pika.IncomingMessage, "ack", ack)
            async with consuming(broker, script):
                await sender.publish(release("c1"), answer_to=REPLY)
                assert (await sender.answer()).error is None
                await asyncio.wait_for(acking.wait(), 5)
        # The consumer died between reply and ack: the request comes again and is answered again.
        async with consuming(broker, script):
            assert (await sender.answer()).error is None
    assert script.applied == ["c1", "c1"]
    await _nothing_left(broker)


async def test_a_stopped_consumer_lets_its_transaction_end_and_gives_the_rest_back(broker: Broker) -> None:
    entered, leave = threading.Event(), threading.Event()

    def act(_: Delivery) -> None:
        entered.set()
        leave.wait(10)

    script = Script(act)
    async with hand(broker.node) as sender:
        await sender.publish(release("c1"))
        async with consuming(broker, script) as task:
            await until(entered.is_set)
            task.cancel()
            await asyncio.sleep(0.1)
            assert not task.done(), "the thread is not left behind"
            leave.set()
            await asyncio.wait([task], timeout=5)
            assert task.done()
    assert script.applied == ["c1"]
    assert await ready(broker, PARTITION_QUEUE) == 1, "it was not acked, so it comes again"


async def test_a_message_that_cannot_even_be_parsed_takes_no_other_along(own_broker: Broker) -> None:
    """Properties that are no UTF-8 break aio-pika's connection; the queue's delivery limit ends that."""
    broker = own_broker
    with Management(broker.management_url) as api:
        arguments = {**topology.shared_queues()[1].arguments, "x-delivery-limit": 4}
        api.delete("queues", broker.vhost, PARTITION_QUEUE)
        api.put("queues", broker.vhost, PARTITION_QUEUE, body={"durable": True, "arguments": arguments})
        body = {"routing_key": f"{topology.partition('prod')}.#", "arguments": {}}
        api.post("bindings", broker.vhost, "e", topology.REQUESTS_EXCHANGE, "q", PARTITION_QUEUE, body=body)
    script = Script()
    others = [f"c{i}" for i in range(20)]
    async with hand(broker.node) as sender:
        await sender.publish(release("bad"), correlation_id=_NotText("\udcff\udcfe"))
        for container in others:
            await sender.publish(release(container))
        async with consuming(broker, script):
            await until(lambda: _is(ready(broker, topology.DEAD), 1))  # RabbitMQ itself puts it there
            await until(lambda: len(script.applied) == 20)
    assert script.applied == others
    assert await ready(broker, PARTITION_QUEUE) == 0
    assert await ready(broker, topology.DEAD) == 1


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
