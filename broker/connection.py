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
from typing import Self

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, InvalidFrameError, ProbableAuthenticationError
from yarl import URL

from broker.login import Login, Where, joined, login
from broker.wire import NotTrusted, Wire
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


def parse_urls(where: Where) -> list[URL]:
    """The AMQP URL of each of its servers, checked.

    Raises `not_provisioned` without repeating it, as it holds a password.
    """
    access = login(where)
    try:
        parsed = [URL(url) for url in access.servers()]
        usable = all(url.scheme in ("amqp", "amqps") and url.host and url.user for url in parsed)
    except ValueError:
        usable = False
    if not usable:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"the AMQP URL{access.place} cannot be used: it must read amqp://USER:PASSWORD@HOST:PORT/VHOST, "
            "where a virtual host named / is written %2F; enrolling prints it. amqps:// is for TLS, and "
            "several HOST:PORT have commas between",
        )
    return parsed


def parse_url(where: Where) -> URL:
    """As `parse_urls`, of the first server. All have the same user and virtual host."""
    return parse_urls(where)[0]


def masked(where: Where) -> str:
    """The URL as it may be shown: user, hosts, ports and virtual host, but no password."""
    return joined([_masked(url) for url in parse_urls(where)])


def _masked(url: URL) -> str:
    plain = url.with_query(None)
    return str(plain.with_password("***") if plain.password is not None else plain)


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

    def __init__(self, url: URL, credentials: Login) -> None:
        super().__init__(url)
        self.wire = Wire(credentials.trust.context)
        self.kwargs["transport_factory"] = self.wire  # what aio-pika gives to aiormq.connect


class Link:
    """One connection for as many channels as are asked for, to whichever server of its URL lets it in.

    `problem` says why the last attempt to connect failed; `on_problem` is called when one did.
    """

    def __init__(self, where: Where, *, name: str, heartbeat_s: int = HEARTBEAT_S) -> None:
        """`name` is what RabbitMQ shows for the connection. With heartbeats every `heartbeat_s` seconds at
        most, a connection that fell silent is given up after two. Raises `not_provisioned` for a bad URL.

        Links begin with one of several servers at random, so that a cluster's share the work, and stay with
        the one that let them in for as long as it does.
        """
        urls = parse_urls(where)
        self._login = login(where)
        self._parameters = {"name": name, "heartbeat": str(heartbeat_s)}
        self._turn = random.randrange(len(urls))  # noqa: S311  spreads load, guards nothing
        self._round: list[ServiceError] = []
        self._told: dict[str, str] = {}
        self._name = name
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._backoff = Backoff()
        self._note(urls)
        self.problem: ServiceError | None = None
        self.on_problem: Callable[[], None] = lambda: None

    def _note(self, urls: list[URL]) -> None:
        """Who we are, and the broker's address as it may be shown."""
        self.user, self.shown = urls[0].user or "", joined([_masked(url) for url in urls])

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
                others = await self._connect()
                obey()
                if self.problem is None or others:
                    continue
            await self._backoff.wait()

    async def _connect(self) -> bool:
        """Try one server; the next one next time. Whether others are left to be tried before a pause."""
        lost, self._connection = self._connection, None
        await close_quietly(lost)
        try:
            urls = parse_urls(self._login)  # read again: the password may have been rotated
        except ServiceError as problem:
            self._log(self.shown, problem)
            self._fail(problem)
            return False
        self._note(urls)
        url = urls[self._turn % len(urls)]
        try:
            async with asyncio.timeout(CONNECT_S + 1):
                connection = _Connection(url.update_query(self._parameters), self._login)
                await connection.connect(timeout=CONNECT_S)
        except ServiceError as problem:
            self._log(_masked(url), problem)
            self._fail(problem)
            return False
        except BaseException as error:
            if not is_loss(error):
                raise
            return self._pass_over(_masked(url), error, len(urls))
        self._connection, self.problem = connection, None
        self._round.clear()
        self._told.clear()
        self._backoff.reset()
        log.info("connected", broker=_masked(url), connection=self._name)
        return False

    def _pass_over(self, shown: str, error: BaseException, servers: int) -> bool:
        """Leave a server that cannot be used. It is a problem once no other is left: then False."""
        self._turn += 1
        self._round.append(_problem(shown, error))
        self._log(shown, self._round[-1])
        if len(self._round) < servers:
            return True
        self._fail(_all_of(self._round))
        return False

    def _fail(self, problem: ServiceError) -> None:
        """There is no connection to be had for now."""
        self._round = []
        self.problem = problem
        self.on_problem()

    def _log(self, shown: str, problem: ServiceError) -> None:
        """Log why a server cannot be used, once for as long as it stays that way."""
        if self._told.get(shown) != problem.message:
            log.warning("not connected", broker=shown, connection=self._name, reason=problem.message)
        self._told[shown] = problem.message

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


def _problem(shown: str, error: BaseException) -> ServiceError:
    if _is_refusal(error):
        return _refused(shown, error)
    if isinstance(error, NotTrusted):
        return _distrusted(shown, error)
    return _away(shown, error)


def _all_of(problems: list[ServiceError]) -> ServiceError:
    """What is wrong with all servers. Where one is away nobody knows whether it would refuse us, too."""
    if len(problems) == 1:
        return problems[0]
    away = [problem for problem in problems if problem.code == Code.UNAVAILABLE]
    told = "; ".join(problem.message for problem in problems)
    return ServiceError((away or problems)[0].code, f"none of {len(problems)} servers can be used: {told}")


def _distrusted(shown: str, error: NotTrusted) -> ServiceError:
    return ServiceError(
        Code.NOT_PROVISIONED,
        f"no safe connection to RabbitMQ at {shown}: {error}. The host in the URL must be one that the "
        "server's certificate names, and MOORAGE_AMQP_CA the authority that signed it; amqps:// needs the "
        "server's port for TLS, which is 5671 by default",
    )


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
