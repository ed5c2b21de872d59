"""A small HTTP server for a few short answers, in threads of its own: bounded in number, size and time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog

from compose.listen_address import split_address
from schemas.errors import Code, ServiceError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_CONNECTIONS = 16
_CONNECTION_S = 10.0
_SILENCE_S = 5.0
_LOOK_S = 0.5

log = structlog.get_logger("moorage")


@contextmanager
def listening(address: str, app: "WSGIApplication") -> Iterator[str]:
    """Answer at HOST:PORT while the block runs; gives the address, with the port that was chosen for 0.

    Raises ServiceError `unavailable` where it cannot listen there, ValueError for what is no address.
    """
    host, port = split_address(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = _Server(where, family)
    except OSError as error:
        raise ServiceError(
            Code.UNAVAILABLE,
            f"MOORAGE_MONITORING: cannot listen at {address} ({error.strerror or error}): see `ss -ltnp` for "
            "who does, and choose another address",
        ) from error
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="monitoring", daemon=True)
    thread.start()
    try:
        yield f"{f'[{host}]' if ':' in host else host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_LOOK_S)


class _Request(WSGIRequestHandler):
    timeout = _SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes come every few seconds."""

    def address_string(self) -> str:
        return str(self.client_address[0])


class _Server(ThreadingMixIn, WSGIServer):
    """Ends connections that take too long, and takes only a few at a time."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _CONNECTIONS

    def __init__(self, where: Any, family: int) -> None:
        self.address_family = family
        self._open: dict[socket.socket, float] = {}
        self._turn = threading.Lock()
        super().__init__(where, _Request)

    def server_bind(self) -> None:
        """As HTTPServer's, which asks the resolver for a name that nobody needs."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether there is room for one more."""
        with self._turn:
            if len(self._open) >= _CONNECTIONS:
                return False
            self._open[request] = time.monotonic()
        return True

    def shutdown_request(self, request: Any) -> None:
        with self._turn:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called about twice a second: end what has been going on for too long."""
        before = time.monotonic() - _CONNECTION_S
        with self._turn:
            late = [request for request, since in self._open.items() if since < before]
        for request in late:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Whoever asked is gone, or sent no HTTP: no trouble of ours."""
        log.debug("a connection for monitoring failed", exc_info=True)
