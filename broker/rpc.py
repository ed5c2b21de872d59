"""Ask the allocator: one request out, one answer back, repeated across lost connections."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused
from prometheus_client import CollectorRegistry

from broker.codec import decode_answer
from broker.connection import LOST, Backoff, Link, explain_loss, is_loss, obey
from broker.login import Where
from broker.metrics import Asked
from broker.sending import NotTaken, Unrouted
from broker.session import Session, SessionLost
from broker.topology import REQUESTS_EXCHANGE, routing_key
from schemas.errors import Code, ServiceError
from schemas.message import Message, Request

_ELECTION_S = 1.0
"""The longest pause before a request is repeated that RabbitMQ did not take, in seconds. A queue of a cluster
takes none while it elects another leader, which is a matter of seconds.
"""

_PATIENCE = 3
"""How often a channel may refuse a request before another one is tried. One of RabbitMQ 3.10 whose queue lost
its leader may go on to refuse all that is sent to it, long after there is another.
"""

_logger = logging.getLogger("moorage.broker")

log = structlog.get_logger("moorage.broker")


class _Progress:
    """How far a request has come, for the message of its failure."""

    in_line = False
    refusals = 0
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
        self._session: Session | None = None
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
                session = await Session.open(self._link)
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
        pauses = Backoff(longest_s=_ELECTION_S)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    obey()
                    session = await self._ready()
                    try:
                        return decode_answer(await self._ask_once(session, request, progress), type(request))
                    except SessionLost:
                        continue
                    except NotTaken:
                        progress.refusals += 1
                        await pauses.wait()
                        if progress.refusals % _PATIENCE == 0:
                            session.end()
        except TimeoutError:
            raise self._too_late(request, progress, timeout_s) from None

    async def _ready(self) -> Session:
        while True:
            session = self._session
            if session is not None and not session.ended.is_set():
                return session
            if self._link.problem is not None and self._link.problem.code == Code.NOT_PROVISIONED:
                raise self._link.problem
            await self._changed.wait()

    async def _ask_once(self, session: Session, request: Request, progress: _Progress) -> bytes:
        try:
            return await session.ask(request, self._link.user, progress)
        except Unrouted as error:
            raise self._not_provisioned(f"no queue takes {routing_key(request)}") from error
        except ChannelNotFoundEntity as error:
            raise self._not_provisioned(f"there is no exchange {REQUESTS_EXCHANGE}") from error
        except ChannelAccessRefused as error:
            session.end()
            if _names(str(error), routing_key(request)):
                raise self._forbidden(request) from error
            raise SessionLost("somebody else's request was refused on this channel") from error
        except BaseException as error:
            if not is_loss(error):
                raise
            session.end()
            raise SessionLost(explain_loss(error)) from error

    def _not_provisioned(self, what: str) -> ServiceError:
        return ServiceError(
            Code.NOT_PROVISIONED,
            f"{what} on RabbitMQ at {self._link.shown}: run `moorage broker provision`",
        )

    def _refused(self, request: Request, timeout_s: float) -> ServiceError:
        return ServiceError(
            Code.UNAVAILABLE,
            f"RabbitMQ at {self._link.shown} did not take {request.NAME} within {timeout_s:g} s: its "
            "queue is full, or has no leader because a majority of its members is away; see `rabbitmqctl "
            "list_queues name messages state`",
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
        if progress.refusals:
            return self._refused(request, timeout_s)
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
