"""Ask the allocator: one request out, one answer back, repeated across lost connections."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused
from prometheus_client import CollectorRegistry

from broker.codec import decode_answer, encode_request
from broker.connection import LOST, OPEN_S, Backoff, Link, close_quietly, explain_loss, is_loss, obey
from broker.frames import Arrived, Outgoing
from broker.login import Where
from broker.message_ids import new_message_id
from broker.metrics import Asked
from broker.pacing import Pacing
from broker.sending import NotTaken, Sending, Told, Unrouted
from broker.topology import REPLY_QUEUE, REQUESTS_EXCHANGE, routing_key
from broker.wire import Wire
from schemas.address import AddressAllocate, AddressRelease
from schemas.errors import Code, ServiceError
from schemas.message import Message, Request

_UNCONFIRMED = 16
"""How many requests of one client may be on their way to the broker at a time. Whoever asks for thousands at
once would fill the broker with them, and everybody else's requests would wait.
"""

_IN_BULK = (AddressAllocate, AddressRelease)
"""What is asked by the thousand: see `pacing`."""

_logger = logging.getLogger("moorage.broker")

log = structlog.get_logger("moorage.broker")


class _SessionLost(Exception):
    """The channel was lost under a request: whether it arrived is not known."""


class _Session:
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
                future.set_exception(refusal or _SessionLost("the channel was lost"))
            self._unconfirmed.release()  # whoever waits for his turn shall see that there is none
        self._pending.clear()

    def _on_close(self, _: AbstractChannel | None, error: BaseException | None) -> None:
        self.end(error if isinstance(error, (ChannelAccessRefused, ChannelNotFoundEntity)) else None)

    def _on_reply(self, message: Arrived) -> None:
        future = self._pending.pop(message.correlation_id or "", None)
        if future is not None and not future.done():
            future.set_result(message.body)

    async def ask(self, request: Request, user_id: str, progress: "_Progress") -> bytes:
        """The body of the answer. Raises `_SessionLost`, or what publishing raises."""
        if not isinstance(request, _IN_BULK):
            return await self._ask(request, user_id, progress)
        paced = self._pacing[routing_key(request)]
        progress.in_line = True
        return await paced.ask(lambda: self._ask(request, user_id, progress))

    async def _ask(self, request: Request, user_id: str, progress: "_Progress") -> bytes:
        if self.ended.is_set():
            raise _SessionLost("the channel was lost")
        correlation_id = uuid4().hex
        message = encode_request(
            request,
            user_id=user_id,
            message_id=new_message_id(),
            correlation_id=correlation_id,
            reply_to=REPLY_QUEUE,
        )
        if _logger.isEnabledFor(logging.DEBUG):
            log.debug("asks", request=request.NAME, message_id=message.message_id, of=request.traced_as)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[correlation_id] = future

        def told(fate: Exception | None) -> None:
            if fate is None:
                progress.confirm()
            if fate is not None and not future.done():
                future.set_exception(fate)

        try:
            progress.sent = True
            await self._send(routing_key(request), message, told)
            return await future
        finally:
            self._pending.pop(correlation_id, None)
            if future.done() and not future.cancelled():
                future.exception()  # read, or asyncio complains of it where publishing failed first

    async def _send(self, key: str, message: Outgoing, told: Told) -> None:
        """Publish when fewer than `_UNCONFIRMED` are on their way; `told` as `Sending.send` has it."""

        def confirmed(fate: Exception | None) -> None:
            self._unconfirmed.release()
            told(fate)

        await self._unconfirmed.acquire()
        if self.ended.is_set():
            raise _SessionLost("the channel was lost")
        self._sending.send(REQUESTS_EXCHANGE, key, message, confirmed)


async def _never(_: object) -> None:
    raise AssertionError("replies are taken off the wire")


class _Progress:
    """How far a request has come, for the message of its failure."""

    in_line = False
    sent = False
    confirmed = False

    def __init__(self, taken: Callable[[], None] | None) -> None:
        self._taken = taken

    def confirm(self) -> None:
        """The broker has it. Only the first time counts: it may be sent again."""
        if self._taken is not None and not self.confirmed:
            self._taken()
        self.confirmed = True


class RpcClient:
    """Asks over one channel that many callers share."""

    def __init__(self, link: Link, asked: Asked) -> None:
        self._link = link
        self._asked = asked
        self._session: _Session | None = None
        self._changed = asyncio.Event()
        link.on_problem = self._tell

    @property
    def connected(self) -> bool:
        """Whether a request could be sent right now."""
        return self._session is not None and not self._session.ended.is_set() and self._link.is_open

    async def run(self) -> None:
        """Keep a session open until cancelled."""
        backoff = Backoff()
        while True:
            try:
                session = await _Session.open(self._link)
            except LOST as error:
                obey()
                log.warning("cannot ask yet", broker=self._link.shown, reason=explain_loss(error))
                await backoff.wait()
                continue
            backoff.reset()
            try:
                self._session = session
                self._tell()
                await session.ended.wait()
            finally:
                self._session = None
                await session.close()
            if not self._link.is_open:
                await backoff.wait()

    def _tell(self) -> None:
        """Wake all who wait for a session, or for the reason why there is none."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def ask(
        self, request: Request, *, timeout_s: float = 10.0, taken: Callable[[], None] | None = None
    ) -> Message:
        """The answer, an instance of `request.ANSWER`, within `timeout_s` seconds.

        `taken` is called once the broker has confirmed the request, in most cases before the answer is there;
        it must not raise. A request whose connection is lost is sent again: requests are idempotent.

        Raises ServiceError and nothing else: `unavailable` (no broker), `timeout` (nobody answered),
        `not_provisioned`, `sender_forbidden` (this user may not send it), `too_large`, or what the answer
        carried.
        """
        begun = time.monotonic()
        try:
            answer = await self._answer(request, _Progress(taken), timeout_s)
        except ServiceError as error:
            self._asked.came_back(request.NAME, time.monotonic() - begun, error.code)
            raise
        self._asked.came_back(request.NAME, time.monotonic() - begun, None)
        return answer

    async def _answer(self, request: Request, progress: "_Progress", timeout_s: float) -> Message:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    obey()
                    session = await self._ready()
                    with contextlib.suppress(_SessionLost):
                        return decode_answer(await self._ask_once(session, request, progress), type(request))
        except TimeoutError:
            raise self._too_late(request, progress, timeout_s) from None

    async def _ready(self) -> _Session:
        while True:
            session = self._session
            if session is not None and not session.ended.is_set():
                return session
            if self._link.problem is not None and self._link.problem.code == Code.NOT_PROVISIONED:
                raise self._link.problem
            await self._changed.wait()

    async def _ask_once(self, session: _Session, request: Request, progress: _Progress) -> bytes:
        try:
            return await session.ask(request, self._link.user, progress)
        except Unrouted as error:
            raise self._not_provisioned(f"no queue takes {routing_key(request)}") from error
        except NotTaken as error:
            raise self._refused(request) from error
        except ChannelNotFoundEntity as error:
            raise self._not_provisioned(f"there is no exchange {REQUESTS_EXCHANGE}") from error
        except ChannelAccessRefused as error:
            session.end()
            if _names(str(error), routing_key(request)):
                raise self._forbidden(request) from error
            raise _SessionLost("somebody else's request was refused on this channel") from error
        except BaseException as error:
            if not is_loss(error):
                raise
            session.end()
            raise _SessionLost(explain_loss(error)) from error

    def _not_provisioned(self, what: str) -> ServiceError:
        return ServiceError(
            Code.NOT_PROVISIONED,
            f"{what} on RabbitMQ at {self._link.shown}: run `moorage broker provision`",
        )

    def _refused(self, request: Request) -> ServiceError:
        return ServiceError(
            Code.UNAVAILABLE,
            f"RabbitMQ at {self._link.shown} does not take {request.NAME}: its queue is full or has lost its "
            "leader; see `rabbitmqctl list_queues name messages state`",
        )

    def _forbidden(self, request: Request) -> ServiceError:
        return ServiceError(
            Code.SENDER_FORBIDDEN,
            f"RabbitMQ does not let user {self._link.user} send {request.NAME}: use a user whose role may "
            "(`moorage client enroll NAME --role producer|operator|console`), or enroll this one again",
            user=self._link.user,
            request=request.NAME,
        )

    def _too_late(self, request: Request, progress: _Progress, timeout_s: float) -> ServiceError:
        broker = self._link.shown
        if progress.confirmed:
            return ServiceError(
                Code.TIMEOUT,
                f"{request.NAME} was sent but not answered within {timeout_s:g} s: is an allocator running, "
                "and does it reach its database? The request may still be applied; repeating it is safe",
            )
        if self._link.problem is not None:
            return self._link.problem
        if progress.sent:
            return ServiceError(
                Code.UNAVAILABLE,
                f"RabbitMQ at {broker} did not confirm {request.NAME} within {timeout_s:g} s: see its log, "
                "and `rabbitmqctl list_alarms` for memory or disk alarms",
            )
        if progress.in_line and self.connected:
            return ServiceError(
                Code.TIMEOUT,
                f"{request.NAME} was not sent within {timeout_s:g} s, because those sent before it wait for "
                "their answers: is an allocator running, and does it reach its database?",
            )
        return ServiceError(
            Code.UNAVAILABLE,
            f"no connection to RabbitMQ at {broker} within {timeout_s:g} s: is it running there?",
        )


def _names(refusal: str, key: str) -> bool:
    """Whether RabbitMQ's refusal is about this routing key, or about the exchange as a whole."""
    return f"'{key}'" in refusal or "access to topic" not in refusal


@asynccontextmanager
async def rpc_client(url: Where, *, name: str, asked: Asked | None = None) -> AsyncIterator[RpcClient]:
    """A client that connects, and connects again, in the background; a broker that is away fails no start.

    `name` is what RabbitMQ shows for the connection; what is `asked` is counted there. Raises
    `not_provisioned` for a URL that cannot be used.
    """
    async with Link(url, name=name) as link:
        client = RpcClient(link, asked or Asked(CollectorRegistry()))
        keeper = asyncio.create_task(client.run(), name=f"{name}: keep connected")
        try:
            yield client
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
