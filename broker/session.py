"""One channel to ask on: its requests, its reply queue and the callers who wait."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol, Self
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from broker.codec import encode_request
from broker.connection import OPEN_S, Link, close_quietly, obey
from broker.frames import Arrived, Outgoing
from broker.message_ids import new_message_id
from broker.pacing import Pacing
from broker.sending import Sending
from broker.topology import REPLY_QUEUE, REQUESTS_EXCHANGE, routing_key
from broker.wire import Wire
from schemas.address import AddressAllocate, AddressRelease
from schemas.message import Request

_UNCONFIRMED = 16
"""How many requests of one client may be on their way to the broker at a time. Whoever asks for thousands at
once would fill the broker with them, and everybody else's requests would wait.
"""

AGAIN_S = 5.0
"""How long an answer is waited for before the request is sent again, in seconds; twice as long each further
time. When a node of a cluster dies, requests and answers that it had on their way die with it, and whoever
waits for them may be connected to another, and see nothing of it.
"""
POD_AGAIN_S = 2.0
"""The same for what a pod waits for. It costs the allocator little to answer that twice."""

_IN_BULK = (AddressAllocate, AddressRelease)
"""What is asked by the thousand: see `pacing`."""

_logger = logging.getLogger("moorage.broker")

log = structlog.get_logger("moorage.broker")


class Progress(Protocol):
    """How far a request has come."""

    in_line: bool
    sent: bool

    def confirm(self) -> None:
        """The broker has it."""
        ...


class SessionLost(Exception):
    """The channel was lost under a request: whether it arrived is not known."""


class Session:
    """One channel with its reply queue and the callers who wait on it. It ends when the channel does."""

    def __init__(self, channel: AbstractChannel, wire: Wire) -> None:
        self._channel = channel
        self._wire = wire
        self._sending: Sending
        self._unconfirmed = asyncio.Semaphore(_UNCONFIRMED)
        self._pacing: defaultdict[str, Pacing] = defaultdict(Pacing)
        self._pending: dict[str, asyncio.Future[bytes]] = {}
        self.ended = asyncio.Event()

    @classmethod
    async def open(cls, link: Link) -> Self:
        """Raises one of `connection.LOST`."""
        channel, wire = await link.wired_channel(confirms=True)
        session = cls(channel, wire)
        try:
            async with asyncio.timeout(OPEN_S):
                await session._prepare()
                obey()
        except BaseException:
            await session.close()
            raise
        return session

    async def _prepare(self) -> None:
        self._channel.close_callbacks.add(self._on_close)
        underlay = await self._channel.get_underlay_channel()
        self._sending = Sending(self._wire, underlay.number, underlay.connection.connection_tune.frame_max)
        self._wire.divert(underlay.number, self._on_reply, self._sending)
        replies = await self._channel.get_queue(REPLY_QUEUE, ensure=False)
        await replies.consume(_never, no_ack=True)

    async def close(self) -> None:
        """Close the channel; whoever still waits is told that it was lost."""
        self.end()
        await close_quietly(self._channel)

    def end(self, refusal: BaseException | None = None) -> None:
        """Nothing can be asked here any more; `refusal` is why the broker closed the channel."""
        self.ended.set()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(refusal or SessionLost("the channel was lost"))
            self._unconfirmed.release()  # whoever waits for his turn shall see that there is none
        self._pending.clear()

    def _on_close(self, _: AbstractChannel | None, error: BaseException | None) -> None:
        self.end(error if isinstance(error, (ChannelAccessRefused, ChannelNotFoundEntity)) else None)

    def _on_reply(self, message: Arrived) -> None:
        future = self._pending.pop(message.correlation_id or "", None)
        if future is not None and not future.done():
            future.set_result(message.body)

    async def ask(self, request: Request, user_id: str, progress: Progress) -> bytes:
        """The body of the answer. Raises `SessionLost`, or what publishing raises."""
        if not isinstance(request, _IN_BULK):
            return await self._ask(request, user_id, progress)
        paced = self._pacing[routing_key(request)]
        progress.in_line = True
        return await paced.ask(lambda: self._ask(request, user_id, progress))

    async def _ask(self, request: Request, user_id: str, progress: Progress) -> bytes:
        if self.ended.is_set():
            raise SessionLost("the channel was lost")
        correlation_id = uuid4().hex
        message = _addressed(request, user_id, correlation_id)
        if _logger.isEnabledFor(logging.DEBUG):
            log.debug("asks", request=request.NAME, message_id=message.message_id, of=request.traced_as)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[correlation_id] = future
        first_s = POD_AGAIN_S if isinstance(request, _IN_BULK) else AGAIN_S
        repeat = _Repeat(first_s, lambda: self._again(request, user_id, correlation_id, future))

        place = _Place(self._unconfirmed)

        def told(fate: Exception | None) -> None:
            place.leave()
            if fate is None:
                progress.confirm()
            if fate is not None and not future.done():
                future.set_exception(fate)

        try:
            progress.sent = True
            await place.take()
            if self.ended.is_set():
                raise SessionLost("the channel was lost")
            self._sending.send(REQUESTS_EXCHANGE, routing_key(request), message, told)
            repeat.begin()
            return await future
        finally:
            repeat.end()
            place.leave()
            self._pending.pop(correlation_id, None)
            if future.done() and not future.cancelled():
                future.exception()  # read, or asyncio complains of it where publishing failed first

    def _again(
        self, request: Request, user_id: str, correlation_id: str, future: asyncio.Future[bytes]
    ) -> None:
        """Send a request once more that is not answered; whichever answer comes first counts."""
        if self.ended.is_set() or future.done() or self._wire.blocked:
            return
        log.debug("asks again", request=request.NAME, of=request.traced_as)
        with contextlib.suppress(ConnectionResetError):
            message = _addressed(request, user_id, correlation_id)
            self._sending.send(REQUESTS_EXCHANGE, routing_key(request), message, lambda _: None)


def _addressed(request: Request, user_id: str, correlation_id: str) -> Outgoing:
    return encode_request(
        request,
        user_id=user_id,
        message_id=new_message_id(),
        correlation_id=correlation_id,
        reply_to=REPLY_QUEUE,
    )


class _Place:
    """One of the places among those that are on their way to the broker. It is left once, however often."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._taken = False

    async def take(self) -> None:
        """Wait for it."""
        await self._places.acquire()
        self._taken = True

    def leave(self) -> None:
        """The broker has the request; or who asked has the answer, or gave up: a confirm may never come.

        A queue that loses its leader forgets some of those that it owes (seen with RabbitMQ 3.10).
        """
        if self._taken:
            self._taken = False
            self._places.release()


class _Repeat:
    """Calls `again` a time after it was begun, and later again, each time after twice as long."""

    def __init__(self, first_s: float, again: Callable[[], None]) -> None:
        self._wait_s, self._again = first_s, again
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def begin(self) -> None:
        """Count from now on, unless it is over already."""
        if not self._over:
            self._timer = asyncio.get_running_loop().call_later(self._wait_s, self._due)

    def end(self) -> None:
        """There is nothing to wait for any more."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self._wait_s *= 2
        self.begin()
        self._again()


async def _never(_: object) -> None:
    raise AssertionError("replies are taken off the wire")
