"""The API while RabbitMQ cannot be reached: it says so, and goes on by itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine
from yarl import URL

from compose.services.local import LocalServices
from tests.integration.allocating import Asked
from tests.integration.brokering import provisioned
from tests.integration.webbing import running_console


class Wire:
    """A way to the broker that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.whole = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            if not self.whole:
                here.close()
                continue
            there = socket.create_connection(self._to)
            self._open += [here, there]
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            for end in (one, other):
                end.close()

    def cut(self) -> None:
        """Break what is open, and let nobody through."""
        self.whole = False
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()


@contextmanager
def wire(url: str) -> Iterator[Wire]:
    """A way to the broker at `url`."""
    parsed = URL(url)
    made = Wire(parsed.host or "", parsed.port or 5672)
    try:
        yield made
    finally:
        made.close()


def test_without_the_broker_it_answers_503_and_recovers_by_itself(
    services: LocalServices, engine: Engine, tmp_path: Path
):
    Asked(engine).network("prod", "10.1.0.0/24")
    with (
        provisioned(services.management_url, services.amqp_url) as broker,
        wire(broker.admin) as way,
        running_console(
            broker,
            services,
            tmp_path,
            lambda url: str(URL(url).with_host("127.0.0.1").with_port(way.port)),
            timeout_s=1,
        ) as console,
    ):
        token = console.tokens.create("ops", "operator")
        console.wait(token)
        way.cut()
        console.wait(token, 503)
        with console.program(token) as client:
            for answer in (
                client.get("/api/v1/networks"),
                client.delete("/api/v1/networks/prod/pools/web"),
                client.get("/api/v1/dead-letters"),
            ):
                assert answer.status_code == 503
                assert answer.headers["Retry-After"]
                assert answer.json()["code"] == "unavailable"
                assert "RabbitMQ" in answer.json()["detail"]
            assert client.get("/api/v1/whoami").status_code == 200
        way.whole = True
        console.wait(token, 200)
