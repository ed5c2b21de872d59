"""A TCP proxy on loopback: what passes can be slowed down, held back, let go on or cut, each way apart."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from yarl import URL

_PIECE = 1 << 16
_HELLO = 4096
"""How much of what a client says first is kept, in bytes: RabbitMQ's clients name their connection in it."""


class Way(Enum):
    """A direction: `UP` is from the client to the server."""

    UP = "up"
    DOWN = "down"


@dataclass
class Pipe:
    """One connection through a proxy."""

    client: socket.socket
    server: socket.socket
    hello: bytes = field(default=b"", repr=False)
    """The first bytes that the client said."""
    ended: bool = False

    def end(self) -> None:
        """End both sides; what is under way is lost."""
        self.ended = True
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


Chosen = Callable[[Pipe], bool]


def every(_: Pipe) -> bool:
    """All connections."""
    return True


def named(name: str) -> Chosen:
    """Connections to RabbitMQ that have this name: a long string of AMQP's client-properties, whole."""
    said = b"connection_nameS" + len(name).to_bytes(4, "big") + name.encode()
    return lambda pipe: said in pipe.hello


class Proxy:
    """Listens on a loopback port and hands each connection to the server of the moment."""

    def __init__(self, target: int | None) -> None:
        """`target` is a loopback port; with None whoever connects is sent away."""
        self.target = target
        self.delay_s: dict[Way, float] = dict.fromkeys(Way, 0.0)
        """How long each piece of a stream waits, in seconds."""
        self._held: dict[Way, Chosen] = {}
        self._change = threading.Condition()
        self._open: list[Pipe] = []
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, name=f"proxy {self.port}", daemon=True).start()

    def through(self, url: str) -> str:
        """The same URL, but through here."""
        return str(URL(url).with_host("127.0.0.1").with_port(self.port))

    def hold(self, *ways: Way, those: Chosen = every) -> None:
        """Let nothing more pass that way, both without one, on `those` connections: a black hole.

        Connections that are made meanwhile are open as far as the client can see. What is held back passes
        at `heal`, as TCP sends again what was not acknowledged.
        """
        with self._change:
            self._held |= dict.fromkeys(ways or Way, those)

    def heal(self) -> None:
        """Let all pass again, at once."""
        with self._change:
            self._held.clear()
            self.delay_s = dict.fromkeys(Way, 0.0)
            self._change.notify_all()

    def cut(self, those: Chosen = every) -> None:
        """End those connections, as a firewall or a dying proxy would; what is held back of them is lost."""
        with self._change:
            for pipe in self._open:
                if those(pipe):
                    pipe.end()
            self._change.notify_all()

    @property
    def pipes(self) -> list[Pipe]:
        """The connections that are open."""
        with self._change:
            return list(self._open)

    def close(self) -> None:
        """End all connections and take no more."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()
        self.cut()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), name="relay", daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client:
            if self.target is None:
                return
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pipe = Pipe(client, server)
                with self._change:
                    self._open.append(pipe)
                try:
                    self._relay(pipe)
                finally:
                    with self._change:
                        self._open.remove(pipe)

    def _relay(self, pipe: Pipe) -> None:
        """Carry both ways until one end closes. Raises `OSError` where an end is lost."""
        down = threading.Thread(target=self._carry, args=(pipe, Way.DOWN), name="relay down", daemon=True)
        down.start()
        self._carry(pipe, Way.UP)
        down.join()

    def _carry(self, pipe: Pipe, way: Way) -> None:
        source, target = (pipe.client, pipe.server) if way is Way.UP else (pipe.server, pipe.client)
        try:
            while data := source.recv(_PIECE):
                if way is Way.UP and len(pipe.hello) < _HELLO:
                    pipe.hello += data
                if self.delay_s[way] > 0:
                    time.sleep(self.delay_s[way])
                self.let_pass(pipe, way)
                target.sendall(data)
            self.let_pass(pipe, way)  # an end is no more heard of than anything else
        except OSError:
            pass
        finally:
            pipe.end()

    def let_pass(self, pipe: Pipe, way: Way) -> None:
        """Return when what goes this way is not held back."""
        with self._change:
            self._change.wait_for(lambda: way not in self._held or not self._held[way](pipe) or pipe.ended)


@contextmanager
def proxy(target: int | None) -> Iterator[Proxy]:
    """A proxy that ends with the context."""
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
