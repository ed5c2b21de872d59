"""What arrives from one queue on a channel of its own, in batches of whatever is there."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from aio_pika.abc import AbstractChannel

from broker.connection import OPEN_S, Link, close_quietly, obey
from broker.frames import Arrived, ack
from broker.wire import Wire

_CROWDED = 16
"""With fewer about, nobody is kept waiting for company."""
_GATHER_S = 0.005


class ChannelLost(ConnectionError):
    """The channel, its connection or the queue behind it is gone; what was not acked comes back."""


class Intake:
    """The messages of one consumer, in the order in which they came."""

    def __init__(self, wire: Wire, channel: int, *, apart_s: float = 0.0) -> None:
        """With `apart_s`, fewer than the limit are taken no sooner than so many seconds after the last ones:
        for what comes at a steady rate and can wait that long.
        """
        self._wire, self._channel, self._apart_s = wire, channel, apart_s
        self._waiting: deque[Arrived] = deque()
        self._wanted = 1
        self._bell = asyncio.Event()
        self._lost: BaseException | None = None
        self._last = 0
        self._next_at = 0.0

    def arrived(self, message: Arrived) -> None:
        """Called for each delivery."""
        message.arrived_at = monotonic()
        self._waiting.append(message)
        if len(self._waiting) >= self._wanted:
            self._bell.set()

    @property
    def next(self) -> Arrived | None:
        """The first message that was not taken yet."""
        return self._waiting[0] if self._waiting else None

    def lose(self, error: BaseException) -> None:
        """Called when nothing more will come. Only the first reason counts."""
        self._lost = self._lost or error
        self._bell.set()

    async def take(self, limit: int) -> list[Arrived]:
        """At least one message and at most `limit`: what has arrived. Raises `ChannelLost`.

        Where many ask at the same time, most of those who were just answered are about to ask again: it
        waits a moment for them, because a transaction costs much the same for one request as for many.
        Whoever asks alone, or with a few others, is never kept waiting.
        """
        if self._apart_s > 0:
            await self._rest(limit)
        most = min(limit, (self._last + len(self._waiting)) * 3 // 4)
        if most >= _CROWDED:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await self._until(most)
        await self._until(1)
        batch = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        self._last = len(batch)
        return batch

    async def _rest(self, limit: int) -> None:
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._next_at):
                await self._until(limit)
        await self._until(1)
        self._next_at = clock() + self._apart_s

    async def _until(self, wanted: int) -> None:
        self._wanted = wanted
        while len(self._waiting) < wanted and self._lost is None:
            self._bell.clear()
            await self._bell.wait()
        self._check()

    def ack(self, message: Arrived) -> None:
        """Acknowledge everything up to `message`. Raises `ChannelLost`, or what `Wire.write` raises."""
        self._check()
        self._wire.write(ack(self._channel, message.delivery_tag))

    def _check(self) -> None:
        if self._lost is not None:
            raise ChannelLost(str(self._lost) or type(self._lost).__name__) from self._lost


@asynccontextmanager
async def intake(
    link: Link, queue: str, *, prefetch: int, acknowledged: bool = True, apart_s: float = 0.0
) -> AsyncIterator[Intake]:
    """Consume `queue` until the context is left. Leaving closes the channel, not the consumer alone:

    `basic.cancel` would hand the queue over while messages are still out, and they would come back last.
    Without `acknowledged`, messages are gone once sent. `apart_s` is for the intake. Raises one of
    `connection.LOST`.
    """
    channel, wire = await link.wired_channel(confirms=False)
    try:
        number = (await channel.get_underlay_channel()).number
        taken = Intake(wire, number, apart_s=apart_s)
        wire.divert(number, taken.arrived)
        await watch(channel, taken.lose)
        async with asyncio.timeout(OPEN_S):
            await channel.set_qos(prefetch_count=prefetch)
            source = await channel.get_queue(queue, ensure=False)
            await source.consume(_never, no_ack=not acknowledged)
            obey()
        yield taken
    finally:
        await close_quietly(channel)


async def _never(_: object) -> None:
    raise AssertionError("deliveries are taken off the wire")


async def watch(channel: AbstractChannel, lose: Callable[[BaseException], None]) -> None:
    """Have `lose` called when this channel is closed or its consumer cancelled by the server."""

    def closed(_: AbstractChannel | None, error: BaseException | None) -> None:
        lose(error or ChannelLost("the channel was closed"))

    def cancelled(_: object) -> None:
        lose(ChannelLost("RabbitMQ cancelled the consumer: the queue is gone or moved"))

    channel.close_callbacks.add(closed)
    underlay = await channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(cancelled)
