"""One connection to RabbitMQ, made again whenever it was lost.

It is a plain `aio_pika.connect` under a loop of our own. `connect_robust` waits a fixed 5 seconds, lets a
publish wait without bound while it reconnects, does not set up the reply queue for RPC again, and closes
and opens in a circle when a redeclare fails; here nothing is ever declared, and each user of a channel
opens what it needs again.
"""

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, InvalidFrameError, ProbableAuthenticationError
from yarl import URL

from broker.wire import Wire
from schemas.errors import Code, ServiceError

CONNECT_S = 5.0
"""How long one attempt to connect may take."""
HEARTBEAT_S = 10
CLOSE_S = 2.0
OPEN_S = 5.0
"""How long opening a channel, a consumer or a prefetch limit may take."""

LOST = CONNECTION_EXCEPTIONS
"""What aio-pika raises when a connection or channel is, or gets, lost. Timeouts are among them (OSError)."""

log = structlog.get_logger("moorage.broker")


class Backoff:
    """Waits that double from `first_s` to `longest_s` seconds, each shortened at random by up to a half."""

    def __init__(self, first_s: float = 0.2, longest_s: float = 5.0) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    async def wait(self) -> None:
        """Wait, and longer the next time. Many clients that lost one broker do not come back at once."""
        chosen = self._next_s * random.uniform(0.5, 1.0)  # noqa: S311  spreads load, guards nothing
        self._next_s = min(self._longest_s, self._next_s * 2)
        await asyncio.sleep(chosen)

    def reset(self) -> None:
        """Something succeeded: begin with the first wait again."""
        self._next_s = self._first_s


def parse_url(url: str) -> URL:
    """The AMQP URL, checked. Raises `not_provisioned` without repeating it, as it holds a password."""
    try:
        parsed = URL(url)
        usable = parsed.scheme in ("amqp", "amqps") and bool(parsed.host) and bool(parsed.user)
    except ValueError:
        usable = False
    if not usable:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            "the AMQP URL cannot be used: it must read amqp://USER:PASSWORD@HOST:PORT/VHOST, where a "
            "virtual host named / is written %2F; enrolling prints it",
        )
    return parsed


def masked(url: str | URL) -> str:
    """The URL as it may be shown: user, host, port and virtual host, but no password."""
    parsed = parse_url(str(url)).with_query(None)
    return str(parsed.with_password("***") if parsed.password is not None else parsed)


def explain_loss(error: BaseException | None) -> str:
    """One line on why a connection or channel was lost, or could not be had."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = str(error) if error is not None else ""
    if "NOT_FOUND" in text:
        text += "; `moorage broker provision` and `moorage node enroll` declare what is needed"
    return text or type(error).__name__


def is_loss(error: BaseException) -> bool:
    """Whether `error`, raised by aio-pika in this task, means that a connection or channel was lost.

    aiormq fails what waits on a channel that is being closed with a bare `Exception`, and what waits on a
    connection that dies of missing heartbeats with a CancelledError although nobody cancelled this task.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() == 0
    return isinstance(error, LOST) or type(error) is Exception


def obey() -> None:
    """Raise CancelledError where this task was told to stop and something it awaited kept that to itself.

    `asyncio.wait_for` does so before Python 3.12 when what it waits for ends in the same moment (cpython
    #86296), and aiormq connects with it. Whoever tries again and again would then do so for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling() > 0:
        raise asyncio.CancelledError


async def close_quietly(thing: AbstractChannel | AbstractConnection | None) -> None:
    """Close a channel or connection, whatever state it is in, within `CLOSE_S` seconds."""
    if thing is None:
        return
    try:
        async with asyncio.timeout(CLOSE_S):
            await thing.close()
    except BaseException as error:
        if not is_loss(error):
            raise
        log.debug("close failed", reason=explain_loss(error))


class _Connection(aio_pika.Connection):
    """A plain connection whose socket can be reached."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wire = Wire()
        self.kwargs["transport_factory"] = self.wire  # what aio-pika gives to aiormq.connect


class Link:
    """One connection for as many channels as are asked for.

    `problem` says why the last attempt to connect failed; `on_problem` is called when one did.
    """

    def __init__(self, url: str, *, name: str, heartbeat_s: int = HEARTBEAT_S) -> None:
        """`name` is what RabbitMQ shows for the connection. With heartbeats every `heartbeat_s` seconds at
        most, a connection that fell silent is given up after two. Raises `not_provisioned` for a bad URL.
        """
        parsed = parse_url(url)
        self._url = parsed.update_query({"name": name, "heartbeat": str(heartbeat_s)})
        self._name = name
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._backoff = Backoff()
        self.user = parsed.user or ""
        self.shown = masked(parsed)
        self.problem: ServiceError | None = None
        self.on_problem: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        await close_quietly(connection)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that was not lost."""
        return self._connection is not None and not _is_lost(self._connection)

    async def _connected(self) -> _Connection:
        """The connection; waits for as long as it takes to have one."""
        while True:
            async with self._connecting:
                if self._connection is not None and not _is_lost(self._connection):
                    return self._connection
                await self._connect()
                obey()
                if self.problem is None:
                    continue
            await self._backoff.wait()

    async def _connect(self) -> None:
        lost, self._connection = self._connection, None
        await close_quietly(lost)
        try:
            async with asyncio.timeout(CONNECT_S + 1):
                connection = _Connection(self._url)
                await connection.connect(timeout=CONNECT_S)
        except BaseException as error:
            if not is_loss(error):
                raise
            self._note(error)
        else:
            self._connection, self.problem = connection, None
            self._backoff.reset()
            log.info("connected", broker=self.shown, connection=self._name)

    def _note(self, error: BaseException) -> None:
        problem = _refused(self.shown, error) if _is_refusal(error) else _away(self.shown, error)
        if self.problem is None or self.problem.message != problem.message:
            log.warning("not connected", broker=self.shown, connection=self._name, reason=problem.message)
        self.problem = problem
        self.on_problem()

    async def channel(self, *, confirms: bool = True) -> AbstractChannel:
        """A channel of its own; waits for as long as it takes to have a connection.

        With `confirms`, a publish returns when the broker has the message, and raises where it went nowhere.
        Raises one of `LOST`.
        """
        return (await self.wired_channel(confirms=confirms))[0]

    async def wired_channel(self, *, confirms: bool) -> tuple[AbstractChannel, Wire]:
        """As `channel`, and the wire of its connection."""
        connection = await self._connected()
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        try:
            async with asyncio.timeout(OPEN_S):
                await channel.initialize()
                obey()
        except BaseException:
            await close_quietly(channel)
            raise
        return channel, connection.wire

    async def writable(self) -> bool:
        """Whether the broker takes messages: False while one of its alarms blocks this connection."""
        return not (await self._connected()).wire.blocked


def _is_lost(connection: AbstractConnection) -> bool:
    # aio-pika's own `is_closed` stays False for a plain connection that the other side closed.
    transport = connection.transport
    return transport is None or transport.connection.is_closed


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, ProbableAuthenticationError):
        return True
    # aiormq hides RabbitMQ's reason when it closes the connection at the choice of the virtual host.
    return isinstance(error, InvalidFrameError) and "Connection.OpenOk" in str(error)


def _away(shown: str, error: BaseException) -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE,
        f"cannot reach RabbitMQ at {shown} ({explain_loss(error)}): is it running there, and does the "
        "network let this machine through?",
    )


def _refused(shown: str, error: BaseException) -> ServiceError:
    return ServiceError(
        Code.NOT_PROVISIONED,
        f"RabbitMQ at {shown} refused the connection: "
        + (
            "the virtual host does not exist, or this user may not use it; enroll the user there"
            if isinstance(error, InvalidFrameError)
            else "check user and password; enrolling again with --rotate gives a new password"
        ),
    )
