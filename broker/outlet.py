"""Channels to publish on, opened again whenever they were lost: one with confirms, one for replies."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import PublishError

from broker.codec import CONTENT_TYPE
from broker.connection import Link, close_quietly, explain_loss, is_loss
from broker.frames import publish
from broker.wire import Wire
from schemas.errors import Code, ServiceError


class Unroutable(Exception):
    """The broker took the message and had no queue to put it in."""


class _Channel:
    """The channel, opened again whenever it was lost."""

    def __init__(self, link: Link, *, confirms: bool) -> None:
        self._link = link
        self._confirms = confirms
        self._open: tuple[AbstractChannel, Wire] | None = None
        self._opening = asyncio.Lock()

    async def get(self) -> tuple[AbstractChannel, Wire]:
        """Raises one of `connection.LOST`."""
        if self._open is None or not self._is_good(self._open[0]):
            async with self._opening:
                if self._open is None or not self._is_good(self._open[0]):
                    lost, self._open = self._open, None
                    await close_quietly(lost[0] if lost else None)
                    self._open = await self._link.wired_channel(confirms=self._confirms)
        return self._open

    def _is_good(self, channel: AbstractChannel) -> bool:
        return not channel.is_closed and self._link.is_open

    async def within(self, seconds: float, send: Callable[[AbstractChannel, Wire], Awaitable[None]]) -> None:
        """Send, in time. Raises `unavailable`: whether the broker has the message is then not known.

        Another channel is opened then. One of RabbitMQ 3.10 may refuse all that is sent to a queue that lost
        its leader, long after the queue has another.
        """
        used: AbstractChannel | None = None
        try:
            async with asyncio.timeout(seconds):
                used, wire = await self.get()
                await send(used, wire)
        except BaseException as error:
            if is_loss(error):
                await self._discard(used)
                raise self._lost(error) from error
            raise

    async def _discard(self, used: AbstractChannel | None) -> None:
        """Others may use another one by now, which is not to blame."""
        if self._open is not None and self._open[0] is used:
            self._open = None
        await close_quietly(used)

    def _lost(self, error: BaseException) -> ServiceError:
        if self._link.problem is not None:
            return self._link.problem
        why = explain_loss(error)
        return ServiceError(
            Code.UNAVAILABLE,
            f"RabbitMQ at {self._link.shown} did not take a message ({why}): see its log, and "
            "`rabbitmqctl list_alarms` for memory or disk alarms",
        )


class Outlet:
    """Publishes with confirms: `publish` returns once the broker has the message."""

    def __init__(self, link: Link) -> None:
        self._channel = _Channel(link, confirms=True)

    async def publish(
        self, message: Message, *, exchange: str, key: str, mandatory: bool, timeout_s: float
    ) -> None:
        """Publish within `timeout_s` seconds, the wait for a connection included.

        Raises `Unroutable` where `mandatory` was given in vain, and `unavailable`: whether the broker has
        the message is then not known.
        """

        async def send(channel: AbstractChannel, _: Wire) -> None:
            target = await channel.get_exchange(exchange, ensure=False)
            try:
                await target.publish(message, key, mandatory=mandatory)
            except PublishError as error:
                place = exchange or "the default exchange"
                raise Unroutable(f"no queue takes {key} from {place}") from error

        await self._channel.within(timeout_s, send)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer on its way to the reply queue of whoever asked."""

    reply_to: str
    correlation_id: str | None
    request: str | None
    body: bytes


class Replies:
    """Publishes answers, without confirms: a caller that hears nothing asks again."""

    def __init__(self, link: Link) -> None:
        self._channel = _Channel(link, confirms=False)

    async def send(self, answers: Sequence[Answered], *, timeout_s: float) -> None:
        """Send all of them in one go within `timeout_s` seconds, the wait for a connection included.

        Returns when they are on their way. Raises `unavailable`: how many of them are is then not known.
        """

        async def send(channel: AbstractChannel, wire: Wire) -> None:
            await _send(channel, wire, answers)

        await self._channel.within(timeout_s, send)


async def _send(channel: AbstractChannel, wire: Wire, answers: Sequence[Answered]) -> None:
    underlay = await channel.get_underlay_channel()
    frame_max = underlay.connection.connection_tune.frame_max
    await wire.send(
        b"".join(
            publish(
                underlay.number,
                answer.reply_to,
                answer.body,
                content_type=CONTENT_TYPE,
                correlation_id=answer.correlation_id,
                kind=answer.request,
                frame_max=frame_max,
            )
            for answer in answers
        )
    )
