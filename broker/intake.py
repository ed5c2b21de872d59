"""What arrives from one queue on a channel of its own, in batches of whatever is there."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.abc import AbstractChannel

from broker.connection import OPEN_S, Link, close_quietly
from broker.frames import Arrived, ack
from broker.wire import Wire


class ChannelLost(ConnectionError):
    """The channel, its connection or the queue behind it is gone; what was not acked comes back."""


class Intake:
    """The messages of one consumer, in the order in which they came."""

    def __init__(self, wire: Wire, channel: int) -> None:
        self._wire, self._channel = wire, channel
        self._waiting: deque[Arrived] = deque()
        self._bell = asyncio.Event()
        self._lost: BaseException | None = None

    def arrived(self, message: Arrived) -> None:
        """Called for each delivery."""
        self._waiting.append(message)
        self._bell.set()

    def lose(self, error: BaseException) -> None:
        """Called when nothing more will come. Only the first reason counts."""
        self._lost = self._lost or error
        self._bell.set()

    async def take(self, limit: int) -> list[Arrived]:
        """At least one message and at most `limit`: what has arrived. Raises `ChannelLost`."""
        while not self._waiting and self._lost is None:
            self._bell.clear()
            await self._bell.wait()
        self._check()
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    async def ack(self, message: Arrived) -> None:
        """Acknowledge everything up to `message`. Raises `ChannelLost`, or what `Wire.send` raises."""
        self._check()
        await self._wire.send(ack(self._channel, message.delivery_tag))

    def _check(self) -> None:
        if self._lost is not None:
            raise ChannelLost(str(self._lost) or type(self._lost).__name__) from self._lost


@asynccontextmanager
async def intake(
    link: Link, queue: str, *, prefetch: int, acknowledged: bool = True
) -> AsyncIterator[Intake]:
    """Consume `queue` until the context is left. Leaving closes the channel, not the consumer alone:

    `basic.cancel` would hand the queue over while messages are still out, and they would come back last.
    Without `acknowledged`, messages are gone once sent. Raises one of `connection.LOST`.
    """
    channel, wire = await link.wired_channel(confirms=False)
    try:
        number = (await channel.get_underlay_channel()).number
        taken = Intake(wire, number)
        wire.divert(number, taken.arrived)
        await _watch(channel, taken)
        async with asyncio.timeout(OPEN_S):
            await channel.set_qos(prefetch_count=prefetch)
            source = await channel.get_queue(queue, ensure=False)
            await source.consume(_never, no_ack=not acknowledged)
        yield taken
    finally:
        await close_quietly(channel)


async def _never(_: object) -> None:
    raise AssertionError("deliveries are taken off the wire")


async def _watch(channel: AbstractChannel, taken: Intake) -> None:
    def closed(_: AbstractChannel | None, error: BaseException | None) -> None:
        taken.lose(error or ChannelLost("the channel was closed"))

    def cancelled(_: object) -> None:
        taken.lose(ChannelLost("RabbitMQ cancelled the consumer: the queue is gone or moved"))

    channel.close_callbacks.add(closed)
    underlay = await channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(cancelled)
