"""The proxy that tests of faults put between processes."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy, Way, named, proxy

LIMIT_S = 10.0
QUIET_S = 0.2
"""For how long nothing comes that is held back."""


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client:
            while data := client.recv(100):
                client.sendall(data)

    def listen() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def between(echo: int) -> Iterator[Proxy]:
    with proxy(echo) as made:
        yield made


def connect(between: Proxy, hello: bytes = b"hello") -> socket.socket:
    """A client that has been answered."""
    client = socket.create_connection(("127.0.0.1", between.port), timeout=LIMIT_S)
    client.sendall(hello)
    assert client.recv(100) == hello
    return client


def hears_nothing(client: socket.socket) -> bool:
    """Whether nothing comes for a while."""
    client.settimeout(QUIET_S)
    try:
        return client.recv(100) is None
    except TimeoutError:
        return True
    finally:
        client.settimeout(LIMIT_S)


@pytest.mark.parametrize("ways", [(), (Way.UP,), (Way.DOWN,)])
def test_what_is_held_back_passes_when_the_proxy_heals(between: Proxy, ways: tuple[Way, ...]):
    with connect(between) as client:
        between.hold(*ways)
        client.sendall(b"more")
        assert hears_nothing(client)
        between.heal()
        assert client.recv(100) == b"more"


def test_connections_of_one_name_are_held_back_and_cut_alone(between: Proxy):
    def hello(name: bytes) -> bytes:
        return b"connection_nameS" + len(name).to_bytes(4, "big") + name

    with (
        connect(between, hello(b"allocator")) as held,
        connect(between, hello(b"allocator replies")) as other,
    ):
        between.hold(Way.UP, those=named("allocator"))
        for client in (held, other):
            client.sendall(b"more")
        assert other.recv(100) == b"more"
        assert hears_nothing(held)
        between.cut(named("allocator"))
        assert held.recv(100) == b""
        other.sendall(b"yet more")
        assert other.recv(100) == b"yet more"


def test_what_is_held_back_is_lost_with_its_connection(between: Proxy):
    with connect(between) as client:
        between.hold(Way.DOWN)
        client.sendall(b"more")
        assert hears_nothing(client)
        between.cut()
        between.heal()
        assert client.recv(100) == b""


def test_each_piece_waits_as_long_as_it_is_told_to(between: Proxy):
    with connect(between) as client:
        between.delay_s[Way.UP] = QUIET_S
        began = time.monotonic()
        client.sendall(b"more")
        assert client.recv(100) == b"more"
        assert time.monotonic() - began >= QUIET_S


def test_without_a_server_whoever_connects_is_sent_away(between: Proxy):
    between.target = None
    with socket.create_connection(("127.0.0.1", between.port), timeout=LIMIT_S) as client:
        assert client.recv(100) == b""
