"""Erlang's port mapper, as a child of ours: the one that Erlang would start itself outlives everybody."""

import socket
from collections.abc import Sequence
from pathlib import Path

from compose.services.errors import NotStarted
from compose.services.process import Child

_READY_S = 10
_GRACE_S = 5


class Epmd:
    """One epmd on a loopback port."""

    def __init__(
        self, program: Path, folder: Path, port: int, *, env: dict[str, str], keep: Sequence[int] = ()
    ) -> None:
        """`keep` are descriptors that the process inherits."""
        self._port = port
        argv = [str(program), "-address", "127.0.0.1", "-port", str(port)]
        self._child = Child("epmd", argv, env=env, log=folder / "epmd.log", keep=keep)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid

    def ensure(self) -> None:
        """Have it running, or ended: `check` tells which. Raises `NotStarted` if it does neither in time."""
        if self.pid is None:
            self._child.start()
            self._child.wait_until_ready(self._probe, limit_s=_READY_S, poll_s=0.02)

    def check(self) -> None:
        """Raise `NotStarted` if it has ended: then somebody else answers on its port.

        It ends silently and with status 0 when its port is taken, and it has no other reason to end.
        """
        if self.pid is None:
            error = NotStarted(
                "epmd",
                f"ended: somebody else has port {self._port} of 127.0.0.1",
                f"See `ss -ltnp sport = {self._port}` for who it is, then start again",
                self._child.log,
                self._child.tail(),
            )
            error.port_was_taken = True
            raise error

    def stop(self) -> None:
        """Stop it; does nothing if it does not run."""
        self._child.stop(_GRACE_S)

    def _probe(self) -> str | None:
        if self.pid is None:
            return None
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError as error:
            return str(error)
        return None
