"""What arrives from one queue on a channel of its own, in batches of whatever is there."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from broker.connection import OPEN_S, Link, close_quietly


class ChannelLost(ConnectionError):
    """The channel, its connection or the queue behind it is gone; what was not acked comes back."""


class Intake:
    """The messages of one consumer, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[AbstractIncomingMessage] = deque()
        self._bell = asyncio.Event()
        self._lost: BaseException | None = None

    async def arrived(self, message: AbstractIncomingMessage) -> None:
        """Called for each delivery."""
        self._waiting.append(message)
        self._bell.set()

    def lose(self, error: BaseException) -> None:
        """Called when nothing more will come. Only the first reason counts."""
        self._lost = self._lost or error
        self._bell.set()

    async def take(self, limit: int) -> list[AbstractIncomingMessage]:
        """At least one message and at most `limit`: what has arrived. Raises `ChannelLost`."""
        while not self._waiting and self._lost is None:
            self._bell.clear()
            await self._bell.wait()
        if self._lost is not None:
            raise ChannelLost(str(self._lost) or type(self._lost).__name__) from self._lost
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]


@asynccontextmanager
async def intake(
    link: Link, queue: str, *, prefetch: int, acknowledged: bool = True
) -> AsyncIterator[Intake]:
    """Consume `queue` until the context is left. Leaving closes the channel, not the consumer alone:

    `basic.cancel` would hand the queue over while messages are still out, and they would come back last.
    Without `acknowledged`, messages are gone once sent. Raises one of `connection.LOST`.
    """
    channel = await link.channel(confirms=False)
    try:
        taken = Intake()
        await _watch(channel, taken)
        async with asyncio.timeout(OPEN_S):
            await channel.set_qos(prefetch_count=prefetch)
            source = await channel.get_queue(queue, ensure=False)
            await source.consume(taken.arrived, no_ack=not acknowledged)
        yield taken
    finally:
        await close_quietly(channel)


async def _watch(channel: AbstractChannel, taken: Intake) -> None:
    def closed(_: AbstractChannel | None, error: BaseException | None) -> None:
        taken.lose(error or ChannelLost("the channel was closed"))

    def cancelled(_: object) -> None:
        taken.lose(ChannelLost("RabbitMQ cancelled the consumer: the queue is gone or moved"))

    channel.close_callbacks.add(closed)
    underlay = await channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(cancelled)
