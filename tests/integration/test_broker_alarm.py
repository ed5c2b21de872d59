"""A broker that takes no messages for a while, because it is low on disk."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker import topology
from broker.consumer import Delivery, QueuePlan
from compose.services.local import LocalServices
from tests.integration.brokering import (
    PARTITION_QUEUE,
    Broker,
    Script,
    consuming,
    counts,
    hand,
    limit_disk,
    nothing_left,
    ready,
    release,
    until,
)

pytestmark = pytest.mark.services


@asynccontextmanager
async def low_on_disk(services: LocalServices) -> AsyncIterator[None]:
    """RabbitMQ blocks every connection that publishes, for as long as the context lasts."""
    await asyncio.to_thread(limit_disk, services, low=True)
    try:
        yield
    finally:
        await asyncio.to_thread(limit_disk, services, low=False)


async def test_while_the_broker_takes_no_replies_requests_wait_and_are_answered_later(
    services: LocalServices, broker: Broker
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def act(delivery: Delivery) -> None:
        if delivery.request == release("c0"):
            entered.set()
            leave.wait(60)
        time.sleep(0.1)  # the broker needs a moment to say that it is blocked

    script = Script(act)
    wanted = [f"c{number}" for number in range(30)]
    one_by_one = QueuePlan(PARTITION_QUEUE, prefetch=64, batch=1)
    async with hand(broker.node) as sender, consuming(broker, script, one_by_one):
        for container in wanted:
            await sender.publish(release(container), answer_to=topology.REPLY_QUEUE)
        await until(entered.is_set)
        async with low_on_disk(services):
            leave.set()
            # The broker says so at the first reply that reaches it; what was under way by then is served.
            await until(lambda: counts(ready(broker, PARTITION_QUEUE), len(wanted) - len(script.applied)))
            applied = list(script.applied)
            assert len(applied) < len(wanted)
            await asyncio.sleep(1)
            assert script.applied == applied, "given back, and not served again and again"
        answers = [await sender.answer() for _ in wanted]
    assert all(answer.error is None for answer in answers)
    assert script.applied == wanted
    await nothing_left(broker)
