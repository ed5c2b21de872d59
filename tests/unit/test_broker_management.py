"""A management API of several hosts, of which some are away, and what enrolment makes of them."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from broker import provisioning
from broker.login import Login
from broker.management import Management
from schemas.errors import Code, ServiceError

SECRET = "hunter2"


class Api:
    """One that knows its listeners and takes whatever is put there."""

    def __init__(self, *listeners: tuple[str, int]) -> None:
        self.listeners = [{"protocol": protocol, "port": port} for protocol, port in listeners]
        self.asked: list[str] = []
        self.connections_fail = 0
        self.users: set[str] = set()

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if path == "/api/overview":
            return 200, {"listeners": self.listeners}
        if path.startswith("/api/connections/") and self.connections_fail:
            self.connections_fail -= 1
            return 500, {"reason": "it is ending by itself"}
        if path.startswith("/api/users/"):
            known = path in self.users
            if method == "DELETE":
                self.users.discard(path)
            elif method == "PUT":
                self.users.add(path)
            return (200 if known or method == "PUT" else 404), {}
        return (404, {}) if method == "GET" else (204, None)


@pytest.fixture
def serving() -> Iterator[Any]:
    """Starts an API and returns its port."""
    with ExitStack() as undo:

        def start(api: Api) -> int:
            class Handler(BaseHTTPRequestHandler):
                def _any(self) -> None:
                    self.rfile.read(int(self.headers.get("content-length") or 0))
                    status, body = api.answer(self.command, self.path)
                    text = b"" if body is None else json.dumps(body).encode()
                    self.send_response(status)
                    self.send_header("content-length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)

                do_GET = do_PUT = do_POST = do_DELETE = _any

                def log_message(self, *_: Any) -> None: ...

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            undo.callback(server.server_close)
            undo.callback(server.shutdown)
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            return int(server.server_address[1])

        yield start


def away() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def url(*ports: int) -> str:
    return f"http://admin:{SECRET}@{','.join(f'127.0.0.1:{port}' for port in ports)}"


def test_where_the_first_host_is_away_the_second_is_asked_and_stayed_with(serving: Any):
    api = Api()
    with Management(url(away(), serving(api))) as management:
        management.put("users", "a")
        assert management.get("users", "a") == {}
    assert api.asked == ["PUT /api/users/a", "GET /api/users/a"]


def test_where_all_are_away_all_are_told(serving: Any):
    ports = [away(), away()]
    with Management(url(*ports)) as management, pytest.raises(ServiceError) as caught:
        management.get("overview")
    assert caught.value.code == Code.UNAVAILABLE
    assert all(f"127.0.0.1:{port}" in caught.value.message for port in ports)
    assert SECRET not in caught.value.message


def test_a_host_that_speaks_no_http_is_told_and_not_passed_over(serving: Any):
    """Somebody wrote the port of AMQP: the others would be wrong as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def rude() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1 << 16)
                peer.sendall(b"AMQP\0\0\x09\x01")

        Thread(target=rude, daemon=True).start()
        api = Api()
        ports = listener.getsockname()[1], serving(api)
        with Management(url(*ports)) as management, pytest.raises(ServiceError, match="does not speak HTTP"):
            management.get("overview")
    assert api.asked == []


def enrolled(management: str | Login, **options: Any) -> str:
    return provisioning.enroll_node(management, "n1", password="p", **options).amqp_url


def test_several_hosts_with_one_port_give_a_url_with_all(serving: Any):
    port = serving(Api(("amqp", 5672), ("clustering", 25672)))
    found = enrolled(url(port).replace("127.0.0.1", "127.0.0.1,localhost", 1).replace(",", f":{port},"))
    assert found == "amqp://node.n1:p@127.0.0.1:5672,localhost:5672/%2F"


def test_different_ports_of_several_hosts_are_an_error_that_says_what_to_do(serving: Any):
    port = serving(Api(("amqp", 5672), ("amqp", 5673)))
    with pytest.raises(ServiceError, match="--amqp HOST:PORT,HOST:PORT") as caught:
        enrolled(url(port, port))
    assert caught.value.code == Code.INVALID_REQUEST
    assert enrolled(url(port, port), amqp="a:5672,b:5673") == "amqp://node.n1:p@a:5672,b:5673/%2F"


@pytest.mark.parametrize(
    ("listeners", "scheme"),
    [
        ([("amqp/ssl", 5671)], "amqps"),
        ([("amqp", 5672), ("amqp/ssl", 5671)], "amqp"),
        ([("amqp", 5672)], "amqp"),
    ],
)
def test_tls_is_told_where_there_is_nothing_else(serving: Any, listeners: list[tuple[str, int]], scheme: str):
    assert enrolled(url(serving(Api(*listeners)))).startswith(f"{scheme}://")


def test_who_asks_over_https_is_told_to_go_on_with_tls():
    class Told:
        hosts, encrypted = ("a", "::1"), True

        def get(self, *_: str) -> Any:
            return {
                "listeners": [{"protocol": p, "port": n} for p, n in (("amqp", 5672), ("amqp/ssl", 5671))]
            }

    assert provisioning._amqp_address(Told()) == "amqps://a:5671,[::1]:5671"  # type: ignore[arg-type]


def test_a_broker_without_a_port_for_amqp_is_told(serving: Any):
    with pytest.raises(ServiceError, match="--amqp HOST:PORT"):
        enrolled(url(serving(Api(("http", 15672)))))


def test_whoever_is_revoked_twice_is_gone_once(serving: Any):
    api = Api()
    where = url(serving(api))
    api.users.add("/api/users/node.n1")
    assert provisioning.revoke_node(where, "n1").existed
    assert not provisioning.revoke_node(where, "n1").existed
    assert api.asked.count("DELETE /api/queues/%2F/moorage.node.n1") == 2, "a run that was killed is finished"


def test_a_connection_that_ends_by_itself_does_not_keep_others_open(serving: Any):
    api = Api()
    api.connections_fail = 2
    provisioning.disconnect(url(serving(api)), "node.n1")
    assert len(api.asked) == 3
    api.connections_fail = 100
    with pytest.raises(ServiceError, match="ending by itself"):
        provisioning.disconnect(url(serving(api)), "node.n1")


def test_a_management_url_in_a_file_is_told_with_it(tmp_path: Any):
    file = tmp_path / "management-url"
    file.write_text(f"http://{SECRET}")
    with pytest.raises(ServiceError, match=str(file)) as caught:
        Management(Login(file))
    assert SECRET not in caught.value.message
