"""How many messages wait in each shared queue, asked of the broker now and then.

A passive declare needs no permission on the queue (rabbitmq-website, access-control), and costs the broker a
look at a counter.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog
from aio_pika.abc import AbstractChannel
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.connection import OPEN_S, Link, close_quietly, explain_loss, is_loss, obey
from broker.login import Where

EVERY_S = 10.0

log = structlog.get_logger("moorage.broker")


class Depths(Collector):
    """The last look. A queue that could not be looked at has no depth."""

    def __init__(self, queues: Sequence[str], registry: CollectorRegistry) -> None:
        """Registers its metrics."""
        self._queues = queues
        self._found: Mapping[str, tuple[int, int]] = {}
        self._link: Link | None = None
        registry.register(self)

    @property
    def connected(self) -> bool:
        """Whether the broker can be asked."""
        return self._link is not None and self._link.is_open

    async def run(self, url: Where, *, name: str) -> None:
        """Look every 10 s until cancelled, over a connection of its own that RabbitMQ shows as `name`.

        Raises `not_provisioned` for a URL that cannot be used.
        """
        async with Link(url, name=name) as self._link:
            while True:
                self._found = await self._look(self._link)
                await asyncio.sleep(EVERY_S)

    async def _look(self, link: Link) -> Mapping[str, tuple[int, int]]:
        channel: AbstractChannel | None = None
        found: dict[str, tuple[int, int]] = {}
        try:
            async with asyncio.timeout(EVERY_S):
                for queue in self._queues:
                    if channel is None or channel.is_closed:
                        channel = await link.channel(confirms=False)
                    if (depth := await _depth(channel, queue)) is not None:
                        found[queue] = depth
        except BaseException as error:
            if not is_loss(error):
                raise
            obey()
            log.debug("queues cannot be looked at", reason=explain_loss(error))
        finally:
            await close_quietly(channel)
        return found

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        messages = GaugeMetricFamily(
            "moorage_queue_messages", "Messages that wait; not those a consumer has.", labels=("queue",)
        )
        consumers = GaugeMetricFamily(
            "moorage_queue_consumers", "Consumers that the broker knows, of all processes.", labels=("queue",)
        )
        for queue, (waiting, consuming) in self._found.items():
            messages.add_metric((queue,), waiting)
            consumers.add_metric((queue,), consuming)
        connected = GaugeMetricFamily("moorage_broker_connected", "Whether RabbitMQ is connected.")
        connected.add_metric((), self.connected)
        yield from (messages, consumers, connected)


async def _depth(channel: AbstractChannel, queue: str) -> tuple[int, int] | None:
    """Messages and consumers; None where there is no such queue, which ends the channel."""
    try:
        async with asyncio.timeout(OPEN_S):
            declared = await channel.declare_queue(queue, passive=True)
    except BaseException as error:
        if channel.is_closed and is_loss(error) and "NOT_FOUND" in str(error):
            return None
        raise
    result = declared.declaration_result
    return int(result.message_count or 0), int(result.consumer_count or 0)
