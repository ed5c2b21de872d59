"""The failure table on a real RabbitMQ: what is answered, what dies, what waits, and that nothing loops."""

import asyncio
import threading
from typing import Any

import pytest

from broker import topology
from broker.connection import Backoff
from broker.consumer import DEFERRED, Delivery, Dropped, Outcome, QueuePlan, Refused, Unavailable
from schemas.errors import Code, ServiceError
from schemas.message import MAX_BODY_BYTES
from tests.integration.brokering import (
    PARTITION_QUEUE,
    Broker,
    Script,
    consuming,
    counts,
    hand,
    nobody,
    nothing_left,
    ready,
    release,
    serves,
    take,
    until,
)

pytestmark = pytest.mark.services

REPLY = topology.REPLY_QUEUE
NO = ServiceError(Code.EXHAUSTED, "no address left in pool web")


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
            await serves(sender, script)
        assert sender.answers.empty()
    assert letter.headers["x-moorage-code"] == code
    assert letter.headers["x-moorage-deaths"] == 1
    assert letter.headers["x-moorage-sender"] == ("" if what == "no user" else sender.user)
    assert letter.headers["x-moorage-routing-key"] == parts.get("key", topology.routing_key(release()))
    assert letter.body == parts.get("body", release("bad").model_dump_json().encode())
    assert script.applied == ["next"]
    await nothing_left(broker)


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
    await nothing_left(broker)


@pytest.mark.parametrize(
    "foreign", ["moorage.node.n1", "moorage.dead", PARTITION_QUEUE, "amq.rabbitmq.reply-to.aaaa.bbbb"]
)
async def test_an_answer_never_goes_to_a_queue_that_the_sender_names(broker: Broker, foreign: str) -> None:
    script = Script()
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release("bad"), answer_to=foreign)
        [letter] = await take(broker, topology.DEAD, 1)
        await serves(sender, script)
    assert letter.headers["x-moorage-code"] == Code.SENDER_FORBIDDEN
    assert script.applied == ["next"]
    assert await ready(broker, "moorage.node.n1") == 0
    await nothing_left(broker)


async def test_a_business_no_is_answered_and_no_dead_letter(broker: Broker) -> None:
    script = Script(lambda d: Refused(NO) if d.request == release("full") else None)
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release("full"), answer_to=REPLY)
        answer = await sender.answer()
        await serves(sender, script)
    assert answer.error is not None
    assert (answer.error.code, answer.error.message) == (NO.code, NO.message)
    await nothing_left(broker)


async def test_a_business_no_that_nobody_awaits_is_kept_with_its_reason(broker: Broker) -> None:
    script = Script(lambda _: Refused(NO))
    async with hand(broker.node) as sender, consuming(broker, script):
        await sender.publish(release("full"))
        [letter] = await take(broker, topology.DEAD, 1)
    assert letter.headers["x-moorage-code"] == NO.code
    assert letter.headers["x-moorage-reason"] == NO.message
    await nothing_left(broker)


async def test_a_replayed_letter_that_dies_again_is_counted_once_more(broker: Broker) -> None:
    script = Script(lambda _: Refused(NO))
    async with hand(broker.node) as sender, hand(broker.operator) as operator, consuming(broker, script):
        await sender.publish(release())
        [first] = await take(broker, topology.DEAD, 1)
        replayed = {**first.headers, "x-moorage-replay": "run 1"}
        await operator.publish(release(), body=first.body, headers=replayed)
        [second] = await take(broker, topology.DEAD, 1)
    assert second.headers["x-moorage-deaths"] == 2
    assert second.headers["x-moorage-first-death"] == first.headers["x-moorage-first-death"]
    assert second.body == first.body
    await nothing_left(broker)


@pytest.mark.parametrize("outcome", [DEFERRED, Dropped("the deadline passed")])
async def test_what_is_deferred_or_dropped_is_acked_and_not_answered(
    broker: Broker, outcome: Outcome
) -> None:
    script = Script(lambda d: outcome if d.request == release("later") else None)
    async with hand(broker.node) as sender:
        async with consuming(broker, script):
            await sender.publish(release("later"), answer_to=REPLY)
            await serves(sender, script)
        assert sender.answers.empty()
    assert script.applied == ["later", "next"]
    await nothing_left(broker)


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
            await until(lambda: counts(ready(broker, PARTITION_QUEUE), 30))
            calls = script.calls
            await asyncio.sleep(1)
            assert script.calls - calls <= 6, "it asks again at its leisure"
            away.clear()
            await until(lambda: len(script.applied) == 30)
        assert script.applied == wanted
    await nothing_left(broker)


class _Away(Script):
    """A service that is as unable with nothing to do as with something, like a database that is down."""

    def __call__(self, deliveries: Any) -> list[Outcome]:
        if not deliveries:
            self.calls += 1
            self.act(deliveries)
            return []
        return super().__call__(deliveries)


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
    await nothing_left(broker)


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
    await nothing_left(broker)
