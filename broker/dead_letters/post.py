"""Many messages, published at once and confirmed one by one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel

from broker.connection import Link, close_quietly, explain_loss, is_loss
from broker.frames import Arrived, Outgoing
from broker.intake import watch
from broker.login import Where
from broker.sending import NotTaken, Sending, Unrouted
from schemas.errors import Code, ServiceError

_CONFIRM_S = 10.0


@dataclass(frozen=True, slots=True)
class Posted:
    """A message on its way to an exchange."""

    exchange: str
    key: str
    message: Outgoing


class Post:
    """Publishes over one channel. After a failure it cannot be used again."""

    def __init__(self, link: Link, sending: Sending) -> None:
        self._link = link
        self._counting: AbstractChannel | None = None
        self._sending = sending
        self._open: set[asyncio.Future[Exception | None]] = set()
        self._lost: BaseException | None = None

    @property
    def user(self) -> str:
        """The user that everything is sent as."""
        return self._link.user

    async def send(self, messages: Sequence[Posted]) -> list[Unrouted | NotTaken | None]:
        """What became of each message: None where the broker has it.

        Raises `unavailable`: which of them the broker has is then not known.
        """
        loop = asyncio.get_running_loop()
        fates = [loop.create_future() for _ in messages]
        self._open.update(fates)
        try:
            self._check()
            for posted, fate in zip(messages, fates, strict=True):
                self._sending.send(posted.exchange, posted.key, posted.message, fate.set_result)
            async with asyncio.timeout(_CONFIRM_S):
                found: list[Unrouted | NotTaken | None] = await asyncio.gather(*fates)
        except BaseException as error:
            if not is_loss(error):
                raise
            raise ServiceError(
                Code.UNAVAILABLE,
                f"RabbitMQ at {self._link.shown} did not confirm what was sent ({explain_loss(error)}): look "
                "at its log and at `rabbitmqctl list_alarms`, then run this again; no letter is lost",
            ) from error
        finally:
            self._open.difference_update(fates)
        return found

    async def depth(self, queue: str) -> int:
        """How many messages wait in a queue. Raises one of `connection.LOST`."""
        if self._counting is None:
            self._counting = await self._link.channel(confirms=False)
        found = await self._counting.get_queue(queue)
        return found.declaration_result.message_count or 0

    def _check(self) -> None:
        if self._lost is not None:
            raise ConnectionError(explain_loss(self._lost))

    def lose(self, error: BaseException) -> None:
        """Called when the channel is gone: whoever waits is told."""
        self._lost = self._lost or error
        for fate in self._open:
            if not fate.done():
                fate.set_exception(ConnectionError(explain_loss(self._lost)))


@asynccontextmanager
async def post(url: Where, *, timeout_s: float = 10.0) -> AsyncIterator[Post]:
    """A post, to be had within `timeout_s` seconds. Raises `not_provisioned` or `unavailable`."""
    async with Link(url, name="dead letters: replay") as link:
        try:
            async with asyncio.timeout(timeout_s):
                channel, wire = await link.wired_channel(confirms=True)
                underlay = await channel.get_underlay_channel()
        except BaseException as error:
            if not is_loss(error):
                raise
            raise link.problem or ServiceError(
                Code.UNAVAILABLE, f"no connection to RabbitMQ at {link.shown} within {timeout_s:g} s"
            ) from error
        sending = Sending(wire, underlay.number, underlay.connection.connection_tune.frame_max)
        wire.divert(underlay.number, _never, sending)
        found = Post(link, sending)
        await watch(channel, found.lose)
        try:
            yield found
        finally:
            await close_quietly(channel)


def _never(_: Arrived) -> None:
    raise AssertionError("nothing is consumed here")
