"""One channel that holds letters out of the queue, and takes those that are settled out for good."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

from aio_pika.abc import AbstractChannel, AbstractQueue

from broker.connection import OPEN_S, Link, close_quietly, obey
from broker.frames import ack
from broker.intake import watch
from broker.topology import DEAD
from broker.wire import Sink, Wire

HANDFUL = 2000
"""How many letters one channel holds: the most that lie about in this process, too."""
_AT_ONCE = 16


class Hand:
    """Letters that RabbitMQ counts as delivered, by the numbers it gave them: 1, 2, 3 and so on."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, wire: Wire, number: int) -> None:
        self._channel, self._queue = channel, queue
        self._wire, self._number = wire, number
        self._settled = 0
        self.given = 0
        self.scattered = False
        """Whether letters were settled one by one, so that RabbitMQ may not have come to all of them."""

    @classmethod
    async def open(cls, link: Link) -> Self:
        """A hand that is given nothing yet. Raises one of `connection.LOST`."""
        channel, wire = await link.wired_channel(confirms=False)
        queue = await channel.get_queue(DEAD, ensure=False)
        return cls(channel, queue, wire, (await channel.get_underlay_channel()).number)

    async def begin(self, sink: Sink, lose: Callable[[BaseException], None]) -> None:
        """Have letters given to `sink`, `HANDFUL` at most. Raises one of `connection.LOST`."""
        self._wire.divert(self._number, sink)
        await watch(self._channel, lose)
        async with asyncio.timeout(OPEN_S):
            await self._channel.set_qos(prefetch_count=HANDFUL)
            await self._queue.consume(_never)
            obey()

    @property
    def held(self) -> int:
        """How many letters are out here."""
        return self.given - self._settled

    async def settle(self, numbers: Sequence[int]) -> None:
        """Take these letters out for good; they must be ever higher ones. Raises one of `connection.LOST`.

        RabbitMQ passes 32 settlements on to a quorum queue and keeps further ones back until those are
        carried out; what it keeps back when the channel is closed is forgotten, and the letters return. All
        letters up to one are one settlement. Others are told a few at a time, with a question between that
        it answers once the queue has got them.
        """
        last = numbers[-1]
        if self._settled + len(numbers) == last:
            self._wire.write(ack(self._number, last))
        else:
            self.scattered = True
            for start in range(0, len(numbers), _AT_ONCE):
                few = numbers[start : start + _AT_ONCE]
                self._wire.write(b"".join(ack(self._number, number, multiple=False) for number in few))
                async with asyncio.timeout(OPEN_S):
                    await self._channel.get_queue(DEAD)
        self._settled += len(numbers)

    async def close(self) -> None:
        """Give back what is held."""
        await close_quietly(self._channel)


async def _never(_: object) -> None:
    raise AssertionError("deliveries are taken off the wire")
