"""Free loopback ports, held until just before their server starts."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

from schemas.errors import Code, ServiceError

_LOWEST = 20000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Reservation:
    """Ports that nobody else gets until `release`: a socket listens on each."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self.ports = tuple(int(held.getsockname()[1]) for held in sockets)

    def release(self) -> None:
        """Free the ports for the server that is about to start. May be called twice."""
        while self._sockets:
            self._sockets.pop().close()


def candidates() -> range:
    """Ports below those the kernel gives to outgoing connections.

    A client that keeps trying a server which is down could otherwise be given the server's own port, and
    even connect to itself.
    """
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32768
    return range(_LOWEST, first) if first - _LOWEST >= 1000 else range(_LOWEST, 61000)


def reserve(count: int, seed: str, among: range | None = None) -> Reservation:
    """`count` free ports of 127.0.0.1. The same seed gives the same ports as long as they are free.

    Raises `unavailable` when there are not that many.
    """
    among = among or candidates()
    with ExitStack() as undo:
        held: list[socket.socket] = []
        for port in random.Random(seed).sample(among, len(among)):  # noqa: S311  for spread, not for secrecy
            if len(held) == count:
                break
            if taken := _take(port):
                held.append(undo.enter_context(taken))
        if len(held) < count:
            raise ServiceError(
                Code.UNAVAILABLE,
                f"only {len(held)} of {count} ports are free on 127.0.0.1 among "
                f"{among.start}-{among.stop - 1}: see `ss -ltn` for who holds them",
            )
        undo.pop_all()
        return Reservation(held)


def _take(port: int) -> socket.socket | None:
    """A listening socket on the port, or None. Like servers it does not mind connections in TIME_WAIT."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen(1)
    except OSError:
        sock.close()
        return None
    return sock
