"""The HTTP listener of a process: what it answers, and what it bears."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from compose import listener, monitoring
from compose.listen_address import split_address
from compose.listener import listening
from compose.monitoring import LoopWatch, application, monitored
from schemas.errors import Code, ServiceError
from schemas.health import Check, Health

GOOD = Health.of(Check(name="database", ok=True))
BAD = Health.of(Check(name="database", ok=False, message="it is away: bring it back"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        raise RuntimeError("no numbers today")


@contextmanager
def served(
    registry: CollectorRegistry | None = None, alive: Health = GOOD, ready: Health = GOOD
) -> Iterator[str]:
    app = application(registry or CollectorRegistry(), lambda: alive, lambda: ready)
    with listening("127.0.0.1:0", app) as address:
        yield address


def asked(address: str, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_metrics_are_told_in_prometheus_text():
    registry = CollectorRegistry()
    Counter("moorage_tests_total", "Tests.", registry=registry).inc(3)
    with served(registry) as address:
        status, body = asked(address, "/metrics")
    assert status == 200
    assert b"moorage_tests_total 3.0" in body


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize(("health", "status"), [(GOOD, 200), (BAD, 503)])
def test_health_is_a_status_and_its_reasons(path: str, health: Health, status: int):
    with served(alive=health, ready=health) as address:
        found, body = asked(address, path)
    assert found == status
    assert Health.model_validate_json(body) == health


def test_what_is_ready_need_not_be_what_is_alive():
    with served(alive=GOOD, ready=BAD) as address:
        assert asked(address, "/healthz")[0] == 200
        assert asked(address, "/readyz")[0] == 503


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_nothing_but_get_is_served(method: str, path: str):
    with served() as address:
        assert asked(address, path, method)[0] == 405


@pytest.mark.parametrize("path", ["/", "/metrics/x", "/../etc/passwd", "/healthz%00"])
def test_other_paths_are_told_which_there_are(path: str):
    with served() as address:
        status, body = asked(address, path)
    assert status == 404
    assert b"/readyz" in body


def test_a_collector_that_fails_harms_no_other_question():
    registry = CollectorRegistry()
    registry.register(Broken())
    with served(registry) as address:
        status, body = asked(address, "/metrics")
        assert (status, b"the log" in body) == (500, True)
        assert b"no numbers today" not in body
        assert asked(address, "/readyz")[0] == 200


def test_a_request_that_is_too_long_is_refused():
    with served() as address:
        assert asked(address, "/" + "x" * 70_000)[0] == 414


def connected(address: str, undo: ExitStack) -> socket.socket:
    host, _, port = address.rpartition(":")
    return undo.enter_context(socket.create_connection((host, int(port)), timeout=10))


def ended(sock: socket.socket) -> bool:
    """Whether the other side hung up, within the 10 s that the socket waits."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_whoever_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener._Request, "timeout", 0.1)
    with served() as address, ExitStack() as undo:
        assert ended(connected(address, undo))


def test_whoever_goes_on_for_ever_is_hung_up_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "_CONNECTION_S", 0.5)
    with served() as address, ExitStack() as undo:
        sock = connected(address, undo)
        done = threading.Event()

        def drip() -> None:
            try:
                while not done.wait(0.05):
                    sock.sendall(b"x")
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert ended(sock)
        finally:
            done.set()
            thread.join()


def test_only_so_many_are_served_at_a_time_and_others_again_afterwards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "_CONNECTIONS", 2)
    monkeypatch.setattr(listener._Request, "timeout", 60.0)
    monkeypatch.setattr(listener, "_CONNECTION_S", 60.0)
    with served() as address:
        with ExitStack() as undo:
            for _ in range(2):
                connected(address, undo).sendall(b"GET")
            assert ended(connected(address, undo))
        for _ in range(20):
            with suppress(OSError, http.client.HTTPException):
                if asked(address, "/readyz")[0] == 200:
                    break
        else:
            pytest.fail("nobody is served any more")


def test_nobody_listens_any_more_afterwards():
    with served() as address:
        pass
    with pytest.raises(ConnectionRefusedError), ExitStack() as undo:
        connected(address, undo)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]):
    assert split_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "::1:9464", "[::1]", "h:65536", "h:²"],
)
def test_what_is_no_address_is_refused_in_words(text: str):
    with pytest.raises(ValueError, match=r"not HOST:PORT|no port"):
        split_address(text)


def test_an_address_in_use_is_refused_and_says_what_to_do():
    with served() as address, pytest.raises(ServiceError) as caught, listening(address, lambda e, s: []):
        pass
    assert caught.value.code == Code.UNAVAILABLE
    assert address in caught.value.message
    assert "ss -ltnp" in caught.value.message


def test_a_loop_that_stands_still_is_told_from_one_that_goes_round():
    clock = Clock()
    watch = LoopWatch(CollectorRegistry(), clock)
    clock.now = 5
    assert watch.health().ok
    clock.now = 60
    assert not watch.health().ok
    assert "restart" in watch.health().checks[0].message
    watch.tick()
    assert watch.health().ok


async def test_a_stuck_loop_is_told_of_while_it_is_stuck(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(monitoring, "STUCK_S", 0.2)
    monkeypatch.setattr(monitoring, "_TICK_S", 0.01)
    addresses: list[str] = []
    monkeypatch.setattr(monitoring.log, "info", lambda _, address: addresses.append(address))
    async with monitored("127.0.0.1:0", CollectorRegistry(), lambda: GOOD):
        status, _ = await asyncio.to_thread(asked, addresses[0], "/healthz")
        assert status == 200
        found: list[tuple[int, bytes]] = []

        def watch() -> None:
            limit = time.monotonic() + 20
            while time.monotonic() < limit and (not found or found[-1][0] != 503):
                found.append(asked(addresses[0], "/healthz"))

        thread = threading.Thread(target=watch)
        thread.start()
        thread.join()  # holds the loop up
        assert found[-1][0] == 503
        assert json.loads(found[-1][1])["checks"][0]["name"] == "event loop"


async def test_without_an_address_nothing_listens():
    async with monitored(None, CollectorRegistry(), lambda: GOOD):
        assert not [thread for thread in threading.enumerate() if thread.name == "monitoring"]
