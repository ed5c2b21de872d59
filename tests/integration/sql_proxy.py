"""A TCP proxy before a database: it reads along, fails the queries it is told to, and changes servers."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, make_url

_QUERY, _PING = 3, 14  # COM_QUERY and COM_PING
_LIMIT_S = 20.0


@dataclass(frozen=True)
class Fault:
    """What becomes of one query. With `error` it is refused; else the connection ends.

    `arrives`: the server gets the query; `done`: and has answered it before the connection ends.
    """

    name: str
    arrives: bool = False
    done: bool = False
    silent: bool = False
    error: tuple[int, str] | None = None
    undoes: bool = False

    def __str__(self) -> str:
        return self.name


LOST_BEFORE = Fault("the connection ends before the server gets it")
LOST_DURING = Fault("the connection ends while the server works on it", arrives=True)
LOST_AFTER = Fault("the connection ends when the server has done it", arrives=True, done=True)
SILENCE = Fault("nothing passes any more, and nobody is told", silent=True)
DEADLOCK = Fault("1213", error=(1213, "Deadlock found; try restarting transaction"), undoes=True)
LOCK_TIMEOUT = Fault("1205", error=(1205, "Lock wait timeout exceeded"))  # undoes the one statement alone
SNAPSHOT = Fault("1020", error=(1020, "Record has changed since last read"), undoes=True)
READ_ONLY = Fault("1290", error=(1290, "The server is running with the --read-only option"))

Judge = Callable[[str], Fault | None]


class At:
    """The fault of the query `number` from now (0 is the next), of those that begin with `only`."""

    def __init__(self, number: int, fault: Fault, *, only: str = "", times: int = 1) -> None:
        self._number, self._fault, self._only, self._left = number, fault, only, times
        self.met = False

    def __call__(self, query: str) -> Fault | None:
        if not query.startswith(self._only) or not self._left:
            return None
        if self._number:
            self._number -= 1
            return None
        self._left -= 1
        self.met = True
        return self._fault


class SqlProxy:
    """Listens on a loopback port and hands each connection to the server of the moment.

    Units of work alone are judged: not what a new connection says of itself, which ends in a COMMIT.
    """

    def __init__(self, target: int | None) -> None:
        """`target` is a loopback port; with None whoever connects is sent away."""
        self.target = target
        self.judge: Judge | None = None
        self.queries: list[str] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, name="SQL proxy", daemon=True).start()

    def url(self, database_url: str | URL) -> URL:
        """The same database, but through here."""
        url = make_url(database_url).set(port=self._listener.getsockname()[1])
        return url.update_query_dict({"ssl_disabled": "true"})  # it has to read along

    def cut(self) -> None:
        """End all connections, as a firewall or a dying proxy would."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections and take no more."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def verdict(self, query: str) -> Fault | None:
        """What is to happen to this query."""
        with self._lock:
            self.queries.append(query)
            return self.judge(query) if self.judge else None

    def silence(self) -> None:
        """Return when the proxy closes."""
        self._closing.wait(_LIMIT_S * 3)

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), name="SQL relay", daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client:
            if self.target is None:
                return
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
                with self._lock:
                    self._open |= {client, server}
                try:
                    _Relay(self, client, server).run()
                finally:
                    with self._lock:
                        self._open -= {client, server}


class _Relay:
    """One connection. The protocol is question and answer, so one thread does for both directions."""

    def __init__(self, proxy: SqlProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._asked = b""
        self._set_up = False

    def run(self) -> None:
        """Until one end closes or a fault ends it. Raises `OSError` where an end is lost."""
        for end in (self._client, self._server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        going_on = True
        while going_on:
            readable, _, _ = select.select([self._client, self._server], [], [])
            going_on = self._answer() if self._server in readable else self._ask()

    def _answer(self) -> bool:
        data = self._server.recv(1 << 16)
        self._client.sendall(data)
        return bool(data)

    def _ask(self) -> bool:
        data = self._client.recv(1 << 16)
        self._asked += data
        for packet in self._packets():
            if not self._serve(packet):
                return False
        return bool(data)

    def _packets(self) -> Iterator[bytes]:
        while len(self._asked) >= 4:
            size = 4 + int.from_bytes(self._asked[:3], "little")
            if len(self._asked) < size:
                return
            packet, self._asked = self._asked[:size], self._asked[size:]
            yield packet

    def _serve(self, packet: bytes) -> bool:
        command = packet[4] if packet[3] == 0 else None  # the first packet of a command has number 0
        fault = None
        if command in (_QUERY, _PING):
            fault = self._judge("PING" if command == _PING else packet[5:].decode("utf-8", "replace"))
        if fault is None:
            self._server.sendall(packet)
        elif fault.error is not None:
            self._refuse(fault.error, undoes=fault.undoes)
        else:
            self._lose(packet, fault)
            return False
        return True

    def _judge(self, query: str) -> Fault | None:
        if self._set_up:
            return self._proxy.verdict(query)
        self._set_up = query == "COMMIT"
        return None

    def _refuse(self, error: tuple[int, str], *, undoes: bool) -> None:
        if undoes:
            rollback = b"\x03ROLLBACK"
            self._server.sendall(struct.pack("<I", len(rollback)) + rollback)
            self._server.recv(1 << 16)
        number, text = error
        body = b"\xff" + struct.pack("<H", number) + b"#HY000" + text.encode()
        self._client.sendall(struct.pack("<I", len(body) | 1 << 24) + body)

    def _lose(self, packet: bytes, fault: Fault) -> None:
        if fault.arrives:
            self._server.sendall(packet)
        if fault.done:
            self._server.settimeout(_LIMIT_S)
            assert self._server.recv(1), "the server did not answer"
        if fault.silent:
            self._proxy.silence()


@contextmanager
def sql_proxy(target: int | None) -> Iterator[SqlProxy]:
    """A proxy that ends with the context."""
    proxy = SqlProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
