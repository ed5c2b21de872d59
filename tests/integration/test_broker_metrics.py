"""What consumers and clients count on a real RabbitMQ, what is told of queues, and the lines in the log."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from broker import topology
from broker.consumer import Delivery, Dropped, Outcome, QueuePlan, Refused, Unavailable, consume
from broker.dead_letters.header import REPLAY
from broker.depths import Depths
from broker.metrics import Asked, Served
from broker.rpc import rpc_client
from broker.sender_clocks import SenderClocks
from schemas.address import AddressRelease
from schemas.errors import Code, ServiceError
from schemas.node import NodeHeartbeat
from tests.integration.brokering import (
    LIMIT_S,
    PARTITION_QUEUE,
    PLAN,
    Broker,
    Script,
    anybody,
    hand,
    release,
    until,
)

pytestmark = pytest.mark.services

REPLY = topology.REPLY_QUEUE
QUEUE = {"queue": PARTITION_QUEUE}


@asynccontextmanager
async def counting(broker: Broker, script: Script) -> AsyncIterator[CollectorRegistry]:
    """A consumer, and the registry that it counts in."""
    registry = CollectorRegistry()
    work = consume(
        broker.allocator, (PLAN,), script, authorize=anybody, name="test consumer", served=Served(registry)
    )
    task = asyncio.create_task(work)
    try:
        yield registry
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT_S)


def settled(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["request"], sample.labels["outcome"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "moorage_requests_total" and sample.value
    }


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def decide(delivery: Delivery) -> Outcome | None:
    container = getattr(delivery.request, "container_id", "")
    if container == "refused":
        return Refused(ServiceError(Code.EXHAUSTED, "no address left"))
    if container == "dropped":
        return Dropped("nobody waits")
    if container == "failed":
        raise RuntimeError("nobody foresaw this")
    return None


async def test_requests_are_counted_by_what_became_of_them(broker: Broker) -> None:
    script = Script(decide)
    async with hand(broker.admin) as sender, counting(broker, script) as registry:
        for container in ("applied", "applied", "refused", "dropped", "failed"):
            await sender.publish(release(container), answer_to=REPLY)
        partition = topology.partition("prod")
        for name in ("address.explode", "a.name.somebody.made.up"):
            await sender.publish(release(), key=f"{partition}.{name}", type=name)
        await sender.publish(release(), body=b"{")
        wanted = {
            ("address.release", "applied"): 2,
            ("address.release", "refused"): 1,
            ("address.release", "dropped"): 1,
            ("address.release", "failed"): 1,
            ("address.release", "broken"): 1,
            ("unknown", "broken"): 2,
        }
        await until(lambda: settled(registry) == wanted)
        assert value(registry, "moorage_request_seconds_count", request="unknown") == 2
        assert value(registry, "moorage_dead_letters_total", code="unknown_request") == 2
        assert value(registry, "moorage_dead_letters_total", code="internal") == 1
        assert value(registry, "moorage_batch_requests_sum", **QUEUE) == 8
        assert value(registry, "moorage_queue_consuming", **QUEUE) == 1
        assert value(registry, "moorage_queue_oldest_seconds", **QUEUE) == 0


async def test_the_age_of_the_oldest_message_grows_until_it_is_settled(broker: Broker) -> None:
    away = threading.Event()
    away.set()

    def act(_: Delivery) -> None:
        if away.is_set():
            raise Unavailable("the database is away")

    script = Script(act)
    sent = time.time() - 600
    async with hand(broker.admin) as sender, counting(broker, script) as registry:
        await sender.publish(
            release(), answer_to=REPLY, message_id=f"{int(sent * 1000):012x}7{uuid4().hex[13:]}"
        )
        await until(lambda: (value(registry, "moorage_queue_oldest_seconds", **QUEUE) or 0) >= 600)
        await until(lambda: value(registry, "moorage_queue_consuming", **QUEUE) == 0)
        assert (value(registry, "moorage_queue_oldest_seconds", **QUEUE) or 0) >= 600
        away.clear()
        await sender.answer()
        await until(lambda: value(registry, "moorage_queue_oldest_seconds", **QUEUE) == 0)
        assert (value(registry, "moorage_request_seconds_sum", request="address.release") or 0) >= 600


async def test_a_latency_is_never_less_than_what_was_measured_here(broker: Broker) -> None:
    held = threading.Event()

    def act(_: Delivery) -> None:
        held.wait(LIMIT_S)

    future = f"{int((time.time() + 3600) * 1000):012x}7{uuid4().hex[13:]}"
    async with hand(broker.admin) as sender, counting(broker, Script(act)) as registry:
        begun = time.monotonic()
        await sender.publish(release(), answer_to=REPLY, message_id=future)
        await until(lambda: (value(registry, "moorage_queue_oldest_seconds", **QUEUE) or 0) > 0.1)
        held.set()
        await sender.answer()
        count = "moorage_request_seconds_count"
        await until(lambda: value(registry, count, request="address.release") == 1)
        took = value(registry, "moorage_request_seconds_sum", request="address.release") or 0
        assert 0.1 < took <= time.monotonic() - begun


async def test_a_replay_has_not_waited_since_it_was_first_sent(broker: Broker) -> None:
    old = f"{int((time.time() - 86400) * 1000):012x}7{uuid4().hex[13:]}"
    headers = {"schema_version": 1, REPLAY: "run"}
    async with hand(broker.operator) as sender, counting(broker, Script()) as registry:
        await sender.publish(release(), answer_to=REPLY, message_id=old, headers=headers)
        await sender.answer()
        count = "moorage_request_seconds_count"
        await until(lambda: value(registry, count, request="address.release") == 1)
        assert (value(registry, "moorage_request_seconds_sum", request="address.release") or 0) < 600


async def test_a_heartbeat_tells_how_wrong_its_senders_clock_is(broker: Broker) -> None:
    plan = QueuePlan(topology.HEARTBEATS, prefetch=16, batch=16)
    clocks, script = SenderClocks(), Script()
    registry = CollectorRegistry()
    work = consume(
        broker.allocator,
        (plan, PLAN),
        script,
        authorize=anybody,
        name="test consumer",
        served=Served(registry),
        clocks=clocks,
    )
    behind = f"{int((time.time() - 3600) * 1000):012x}7{uuid4().hex[13:]}"
    task = asyncio.create_task(work)
    try:
        async with hand(broker.node) as sender:
            beat = NodeHeartbeat(node="n1", session=uuid4(), digest=None, attachments=None)
            await sender.publish(beat, message_id=behind, headers={"schema_version": 2})
            done = "moorage_request_seconds_count"
            await until(lambda: value(registry, done, request="node.heartbeat") == 1)
            await sender.publish(release(), message_id=behind, answer_to=REPLY)
            await sender.answer()
            await until(lambda: value(registry, done, request="address.release") == 1)
        assert (value(registry, "moorage_request_seconds_sum", request="address.release") or 0) < 600
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT_S)


async def test_the_allocators_user_may_see_how_many_messages_wait(broker: Broker) -> None:
    registry = CollectorRegistry()
    queues = [queue.name for queue in topology.shared_queues()]
    depths = Depths([*queues, "there.is.none"], registry)
    async with hand(broker.admin) as sender:
        for number in range(3):
            await sender.publish(release(f"c{number}"))
    task = asyncio.create_task(depths.run(broker.allocator, name="test depths"))
    try:
        await until(lambda: value(registry, "moorage_queue_messages", **QUEUE) == 3)
        assert value(registry, "moorage_queue_messages", queue=topology.DEAD) == 0
        assert value(registry, "moorage_queue_consumers", **QUEUE) == 0
        assert value(registry, "moorage_queue_messages", queue="there.is.none") is None
        assert value(registry, "moorage_broker_connected") == 1
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT_S)


async def test_what_a_client_asks_is_counted_by_its_answer(broker: Broker) -> None:
    registry = CollectorRegistry()
    asked = Asked(registry)
    async with counting(broker, Script(decide)), rpc_client(broker.node, name="n1", asked=asked) as client:
        await client.ask(release("applied"), timeout_s=LIMIT_S)
        with pytest.raises(ServiceError):
            await client.ask(release("refused"), timeout_s=LIMIT_S)
        with pytest.raises(ServiceError):
            await client.ask(release("dropped"), timeout_s=0.2)
        cut = asyncio.create_task(client.ask(release("dropped"), timeout_s=LIMIT_S))
        await asyncio.sleep(0)
        cut.cancel()
        await asyncio.wait([cut])
    counted = {
        sample.labels["outcome"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "moorage_asked_total"
    }
    assert counted == {"answered": 1, "exhausted": 1, "timeout": 1}


async def test_a_batch_has_one_line_that_names_its_attachments(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    named = uuid4()
    caplog.set_level(logging.INFO)
    message = UUID(int=7).hex
    with capture_logs() as logs:
        await _two_served(broker, named, message)
    told = [line for line in logs if line["event"] == "requests served"]
    assert [(line["attachment_ids"], line["message_ids"]) for line in told] == [
        ([str(named)], []),
        ([], [message]),
    ]
    assert [line["requests"] for line in told] == 2 * [{"address.release applied": 1}]
    assert all(line["queue"] == PARTITION_QUEUE and line["ms"] >= 0 for line in told)


async def _two_served(broker: Broker, named: UUID, message: str) -> None:
    async with hand(broker.admin) as sender, counting(broker, Script()) as registry:
        with_attachment = AddressRelease(
            network="prod", node="n1", container_id="c1", ifname="eth0", attachment_id=named
        )
        await sender.publish(with_attachment, answer_to=REPLY)
        await sender.answer()
        await sender.publish(release(), message_id=message, answer_to=REPLY)
        await sender.answer()
        await until(lambda: settled(registry) == {("address.release", "applied"): 2})
