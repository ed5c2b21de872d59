"""Our own consumer with a service that answers at once: what the way through `broker/` costs by itself."""

import os
import sys
from collections.abc import Sequence

from allocator.senders import authorize
from bench.answer import ANSWER
from broker.consumer import Delivery, Outcome, QueuePlan, Reply, consume
from compose.logging import configure_logging
from compose.running import run_until_stopped


def answer(deliveries: Sequence[Delivery]) -> list[Outcome]:
    """The same to each."""
    return [Reply(ANSWER) for _ in deliveries]


if __name__ == "__main__":
    configure_logging("warning", "json")
    plan = QueuePlan(sys.argv[1], prefetch=256, batch=64)
    work = consume(os.environ["BENCH_AMQP_URL"], [plan], answer, authorize=authorize, name="trivial")
    run_until_stopped(work)
