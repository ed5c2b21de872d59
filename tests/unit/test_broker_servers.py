"""A link whose URL names several servers, of which some are away: real sockets that speak enough AMQP."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pamqp.frame
import pytest
import structlog
from pamqp import commands as spec
from pamqp.header import ProtocolHeader

from broker.connection import Backoff, Link
from broker.login import Login
from broker.rpc import rpc_client
from schemas.errors import Code, ServiceError
from schemas.network import NetworkList
from tests.integration.brokering import until

SECRET = "hunter2"
LIMIT_S = 20


@dataclass
class Server:
    """One that lets everybody in, or nobody, and remembers who came."""

    port: int
    lets_in: bool = True
    seen: list[str] = field(default_factory=list)
    """The SASL answers, which hold user and password."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    knocked: asyncio.Event = field(default_factory=asyncio.Event)
    opens: asyncio.Event = field(default_factory=asyncio.Event)
    """Unset, whoever comes has to wait."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As RabbitMQ does it, up to channels that are open."""
        self.writers.append(writer)
        self.knocked.set()
        try:
            await self._talk(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(frame: Any, channel: int = 0) -> None:
            writer.write(pamqp.frame.marshal(frame, channel))

        await reader.readexactly(len(ProtocolHeader().marshal()))
        await self.opens.wait()
        say(
            spec.Connection.Start(
                server_properties={"capabilities": {"publisher_confirms": True}}, mechanisms="PLAIN"
            )
        )
        while True:
            head = await reader.readexactly(7)
            data = head + await reader.readexactly(int.from_bytes(head[3:7], "big") + 1)
            _, channel, frame = pamqp.frame.unmarshal(data)
            match frame:
                case spec.Connection.StartOk():
                    self.seen.append(str(frame.response))
                    if not self.lets_in:
                        say(spec.Connection.Close(403, "ACCESS_REFUSED", 0, 0))
                        return
                    say(spec.Connection.Tune(channel_max=100, frame_max=131072, heartbeat=0))
                case spec.Connection.Open():
                    say(spec.Connection.OpenOk())
                case spec.Channel.Open():
                    say(spec.Channel.OpenOk(), channel)
                case spec.Confirm.Select():
                    say(spec.Confirm.SelectOk(), channel)
                case spec.Channel.Close():
                    say(spec.Channel.CloseOk(), channel)
                case spec.Connection.Close():
                    say(spec.Connection.CloseOk())
                    return

    def cut(self) -> None:
        """End all connections."""
        while self.writers:
            self.writers.pop().close()


@asynccontextmanager
async def server(
    *, lets_in: bool = True, opens: bool = True, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    made = Server(0, lets_in)
    if opens:
        made.opens.set()
    listening = await asyncio.start_server(made.serve, host, 0)
    made.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield made
        made.cut()


def refusing() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def url(*ports: int, user: str = "node.n1", password: str = SECRET) -> str:
    return f"amqp://{user}:{password}@{','.join(f'127.0.0.1:{port}' for port in ports)}/"


@pytest.fixture(autouse=True)
def _first_server_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "randrange", lambda _: 0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Each pause that was made; they take no time."""
    made: list[None] = []

    async def wait(_: Backoff) -> None:
        made.append(None)
        await asyncio.sleep(0)

    monkeypatch.setattr(Backoff, "wait", wait)
    return made


async def connected(link: Link) -> None:
    async with asyncio.timeout(LIMIT_S):
        await link.channel()


async def told(link: Link, times: int = 1) -> list[ServiceError]:
    """The problems that a link tells of while it tries to connect."""
    problems: asyncio.Queue[ServiceError] = asyncio.Queue()
    link.on_problem = lambda: problems.put_nowait(link.problem)  # type: ignore[arg-type]
    trying = asyncio.create_task(link.channel())
    try:
        async with asyncio.timeout(LIMIT_S):
            return [await problems.get() for _ in range(times)]
    finally:
        trying.cancel()
        await asyncio.wait([trying])


async def test_where_the_first_server_is_away_the_second_is_used_at_once(waits: list[None]):
    async with server() as second, Link(url(refusing(), second.port), name="test") as link:
        problems: list[object] = []
        link.on_problem = lambda: problems.append(link.problem)
        await connected(link)
        assert link.is_open and link.problem is None
        assert len(second.seen) == 1
    assert (waits, problems) == ([], [])


async def test_a_server_that_refuses_the_password_is_passed_over_too(waits: list[None]):
    """A member of a cluster that is out of step may not know a user yet."""
    async with server(lets_in=False) as first, server() as second:
        async with Link(url(first.port, second.port), name="test") as link:
            await connected(link)
        assert len(first.seen) == len(second.seen) == 1
    assert waits == []


async def test_a_link_stays_with_the_server_that_let_it_in(waits: list[None]):
    async with server() as first, server() as second:
        async with Link(url(first.port, second.port), name="test") as link:
            first.lets_in = False
            await connected(link)
            first.lets_in = True
            for _ in range(2):
                second.cut()
                await until_closed(link)
                await connected(link)
        assert len(first.seen) == 1
        assert len(second.seen) == 3


async def until_closed(link: Link) -> None:
    await until(lambda: not link.is_open)


async def test_a_pause_is_made_once_all_were_tried(waits: list[None]):
    ports = [refusing(), refusing(), refusing()]
    async with Link(url(*ports), name="test") as link:
        with structlog.testing.capture_logs() as logs:
            problems = await told(link, times=2)
    assert len(waits) in (1, 2), "the second round's pause may have begun"
    assert all(problem.code == Code.UNAVAILABLE for problem in problems)
    refused = [log["broker"] for log in logs if log["event"] == "not connected"]
    assert refused == [f"amqp://node.n1:***@127.0.0.1:{port}/" for port in ports], "each is told of once"


async def test_what_is_wrong_with_one_server_fails_nobody_while_others_are_tried():
    """`not_provisioned` ends a request at once: it must be true of all servers."""
    async with (
        server(lets_in=False) as first,
        server(opens=False) as second,
        rpc_client(url(first.port, second.port), name="test") as client,
    ):
        async with asyncio.timeout(LIMIT_S):
            await second.knocked.wait()
        with pytest.raises(ServiceError) as caught:
            await client.ask(NetworkList(), timeout_s=0.2)
    assert caught.value.code == Code.UNAVAILABLE


async def test_a_password_that_no_server_takes_ends_a_request_at_once():
    async with (
        server(lets_in=False) as first,
        server(lets_in=False) as second,
        rpc_client(url(first.port, second.port), name="test") as client,
    ):
        with pytest.raises(ServiceError) as caught:
            await client.ask(NetworkList(), timeout_s=LIMIT_S)
    assert caught.value.code == Code.NOT_PROVISIONED
    assert SECRET not in caught.value.message


async def test_a_password_refused_by_one_server_is_told_although_the_last_one_is_away(waits: list[None]):
    """Or whoever reads the message looks at the network, where there is nothing to mend."""
    async with server(lets_in=False) as first, Link(url(first.port, refusing()), name="test") as link:
        (problem,) = await told(link)
    assert "check user and password" in problem.message and "cannot reach" in problem.message


async def test_a_file_that_changed_is_read_at_the_next_connection(waits: list[None], tmp_path: Path):
    file = tmp_path / "amqp-url"
    async with server() as first, server() as second:
        file.write_text(url(first.port, refusing()))
        async with Link(Login(file), name="test") as link:
            await connected(link)
            file.write_text(url(second.port, user="node.n2", password="rotated"))
            assert link.is_open, "nobody is disconnected by it"
            first.cut()
            await until_closed(link)
            await connected(link)
            assert second.seen == ["\x00node.n2\x00rotated"]
            assert link.user == "node.n2", "RabbitMQ refuses what is sent in another's name"
            assert str(second.port) in link.shown and str(first.port) not in link.shown


async def test_a_shorter_list_of_servers_is_tried_whole(waits: list[None], tmp_path: Path):
    file = tmp_path / "amqp-url"
    file.write_text(url(refusing(), refusing(), refusing()))
    async with server() as only, Link(Login(file), name="test") as link:
        await told(link)
        file.write_text(url(only.port))
        await connected(link)


async def test_half_a_file_is_waited_for(waits: list[None], tmp_path: Path):
    file = tmp_path / "amqp-url"
    async with server() as only:
        file.write_text(url(only.port))
        async with Link(Login(file), name="test") as link:
            file.write_text(url(only.port)[:20])
            (problem,) = await told(link)
            assert problem.code == Code.NOT_PROVISIONED
            assert str(file) in problem.message and SECRET not in problem.message
            file.write_text(url(only.port))
            await connected(link)


async def test_a_name_with_several_addresses_is_tried_at_each(
    waits: list[None], monkeypatch: pytest.MonkeyPatch
):
    """The first one is a machine that is off: whoever connects hears nothing."""
    async with server() as alive:
        with Silent() as dark:
            loop = asyncio.get_running_loop()
            places = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
                for port in (dark, alive.port)
            ]

            async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
                return places

            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
            async with Link(f"amqp://u:{SECRET}@cluster.example:5672/", name="test") as link:
                problems: list[object] = []
                link.on_problem = lambda: problems.append(link.problem)
                await connected(link)
                assert problems == []


class Silent:
    """A port where connections are neither taken nor refused: its queue is full."""

    def __enter__(self) -> int:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self._waiting = []
        for _ in range(3):
            knocking = socket.socket()
            knocking.setblocking(False)
            knocking.connect_ex(self._listener.getsockname())
            self._waiting.append(knocking)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for each in (*self._waiting, self._listener):
            each.close()
