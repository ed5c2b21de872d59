"""What a connection by TLS does to the process that makes it when it does not come about."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from yarl import URL

from broker import connection
from broker.login import Login, Trust
from broker.wire import NotTrusted, Wire
from tests.integration.brokering import until


@asynccontextmanager
async def server(*says: bytes, hangs: bool = False) -> AsyncIterator[int]:
    """The port of one that answers a client's first words with these, and hangs up unless it `hangs`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
            writer.writelines(says)
            while hangs and await reader.read(4096):
                pass
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def sockets() -> int:
    """How many sockets this process has open."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(file.readlink()).startswith("socket:")
    return found


@pytest.mark.parametrize(
    ("says", "hangs"),
    [([b"AMQP\0\0\x09\x01"], False), ([b"\x15\x03\x03\x00\x02\x02\x28"], True), ([], False), ([], True)],
    ids=["no TLS", "alert", "hangs up", "says nothing"],
)
async def test_no_socket_is_left_of_a_tls_that_did_not_come_about(
    monkeypatch: pytest.MonkeyPatch, says: list[bytes], hangs: bool
):
    monkeypatch.setattr(connection, "CONNECT_S", 0.1)
    async with server(*says, hangs=hangs) as port:
        url, before = URL(f"amqps://u:p@127.0.0.1:{port}/"), sockets()
        for _ in range(5):
            with pytest.raises(connection.LOST):
                await connection._Connection(url, Login(str(url))).connect(timeout=connection.CONNECT_S)
        await until(lambda: sockets() <= before)


async def test_what_speaks_no_tls_is_told_apart_from_what_is_away():
    async with server(b"AMQP\0\0\x09\x01") as port:
        wire = Wire(Trust().context)
        with pytest.raises(NotTrusted, match="wrong version number"):
            await wire.create(URL(f"amqps://u:p@127.0.0.1:{port}/"), ssl_context_provider=None)


async def test_certificates_are_loaded_beside_the_event_loop():
    """A machine's whole store takes tens of milliseconds, in which no heartbeat could be answered."""
    where: list[int] = []

    def load() -> ssl.SSLContext:
        where.append(threading.get_ident())
        return ssl.create_default_context()

    async with server() as port:
        with pytest.raises(OSError):
            await Wire(load).create(URL(f"amqps://u:p@127.0.0.1:{port}/"), ssl_context_provider=None)
    assert len(where) == 1 and where != [threading.get_ident()]
