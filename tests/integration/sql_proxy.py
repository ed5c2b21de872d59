"""A TCP proxy before a database: it reads along, fails the queries it is told to, and changes servers."""

import io
import select
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, make_url

from tests.chaos.proxy import Pipe, Proxy, Way

_QUERY, _PING = 3, 14  # COM_QUERY and COM_PING
_OK, _EOF, _ERROR = 0x00, 0xFE, 0xFF  # what an answer's packets begin with
_MORE_RESULTS = 8  # SERVER_MORE_RESULTS_EXISTS
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


class SqlProxy(Proxy):
    """Reads along what is asked.

    Units of work alone are judged: not what a new connection says of itself, which ends in a COMMIT. Of
    statements that are sent together each has its turn: those before a fault are done by the server.
    """

    def __init__(self, target: int | None) -> None:
        """`target` is a loopback port; with None whoever connects is sent away."""
        super().__init__(target)
        self.judge: Judge | None = None
        self.queries: list[str] = []
        self.sends = 0
        """In how many sends they came."""
        self._lock = threading.Lock()

    def url(self, database_url: str | URL) -> URL:
        """The same database, but through here."""
        url = make_url(database_url).set(port=self.port)
        return url.update_query_dict({"ssl_disabled": "true"})  # it has to read along

    def verdict(self, query: str) -> Fault | None:
        """What is to happen to this query."""
        with self._lock:
            self.queries.append(query)
            return self.judge(query) if self.judge else None

    def silence(self) -> None:
        """Return when the proxy closes."""
        self._closing.wait(_LIMIT_S * 3)

    def _relay(self, pipe: Pipe) -> None:
        _Relay(self, pipe).run()


class _Relay:
    """One connection. The protocol is question and answer, so one thread does for both directions."""

    def __init__(self, proxy: SqlProxy, pipe: Pipe) -> None:
        self._proxy, self._pipe, self._client, self._server = proxy, pipe, pipe.client, pipe.server
        self._asked = b""
        self._set_up = False

    def run(self) -> None:
        """Until one end closes or a fault ends it. Raises `OSError` where an end is lost."""
        going_on = True
        while going_on:
            readable, _, _ = select.select([self._client, self._server], [], [])
            going_on = self._answer() if self._server in readable else self._ask()

    def _answer(self) -> bool:
        data = self._server.recv(1 << 16)
        self._proxy.let_pass(self._pipe, Way.DOWN)
        self._client.sendall(data)
        return bool(data)

    def _ask(self) -> bool:
        data = self._client.recv(1 << 16)
        self._proxy.let_pass(self._pipe, Way.UP)
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
        statements: list[bytes] = []
        if command in (_QUERY, _PING):
            statements = [b"PING"] if command == _PING else packet[5:].split(b"; ")
        self._proxy.sends += self._set_up and bool(statements)
        for number, statement in enumerate(statements):
            fault = self._judge(statement.decode("utf-8", "replace"))
            if fault is not None:
                return self._fail(statements[: number + 1], fault)
        self._server.sendall(packet)
        return True

    def _fail(self, statements: list[bytes], fault: Fault) -> bool:
        """The fault of the last of `statements`; whether the connection lives on."""
        before = b"; ".join(statements[:-1])
        if fault.error is not None:
            if before:
                self._do(before)
            self._refuse(fault.error, undoes=fault.undoes)
            return True
        if fault.done:
            self._do(b"; ".join(statements))
        elif fault.arrives:
            self._send(b"; ".join(statements))
        elif before:
            self._do(before)
        if fault.silent:
            self._proxy.silence()
        return False

    def _judge(self, query: str) -> Fault | None:
        if self._set_up:
            return self._proxy.verdict(query)
        self._set_up = query == "COMMIT"
        return None

    def _refuse(self, error: tuple[int, str], *, undoes: bool) -> None:
        if undoes:
            self._do(b"ROLLBACK")
        number, text = error
        body = b"\xff" + struct.pack("<H", number) + b"#HY000" + text.encode()
        self._client.sendall(struct.pack("<I", len(body) | 1 << 24) + body)

    def _do(self, query: bytes) -> None:
        """Have the server do it, and keep its answer from the client."""
        self._send(query)
        self._server.settimeout(_LIMIT_S)
        ends = 0  # of the two that a result set has: behind its columns, and behind its rows
        for packet in self._answers():
            if ends == 0 and packet[0] == _ERROR:
                break
            if ends == 0 and packet[0] == _OK:
                status = _status(packet)
            elif packet[0] == _EOF and len(packet) < 9:
                status, ends = int.from_bytes(packet[3:5], "little"), (ends + 1) % 2
                if ends:
                    continue
            else:
                continue
            if not status & _MORE_RESULTS:
                break
        self._server.settimeout(None)

    def _send(self, query: bytes) -> None:
        self._server.sendall(struct.pack("<I", len(query) + 1) + bytes([_QUERY]) + query)

    def _answers(self) -> Iterator[bytes]:
        stream = self._server.makefile("rb", buffering=0)
        while True:
            head = _exactly(stream, 4)
            yield _exactly(stream, int.from_bytes(head[:3], "little"))


def _status(ok: bytes) -> int:
    at = 1
    for _ in range(2):  # rows and an id lead, as numbers of 1, 3, 4 or 9 bytes
        at += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(ok[at], 1)
    return int.from_bytes(ok[at : at + 2], "little")


def _exactly(stream: io.RawIOBase, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        assert more, "the server did not answer"
        data += more
    return data


@contextmanager
def sql_proxy(target: int | None) -> Iterator[SqlProxy]:
    """A proxy that ends with the context."""
    proxy = SqlProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
