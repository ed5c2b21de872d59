"""Erlang's port mapper, as a child of ours: the one that Erlang would start itself outlives everybody."""

import socket
from collections.abc import Sequence
from pathlib import Path

from compose.services.process import Child

_READY_S = 10


class Epmd:
    """One epmd on a loopback port."""

    def __init__(self, program: Path, folder: Path, *, env: dict[str, str], keep: Sequence[int] = ()) -> None:
        self._program, self._folder, self._env, self._keep = program, folder, env, keep
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self._child else None

    def ensure(self, port: int) -> None:
        """Have it running on `port`. Raises `NotStarted`."""
        if self.pid is not None:
            return
        argv = [str(self._program), "-address", "127.0.0.1", "-port", str(port)]
        self._child = Child("epmd", argv, env=self._env, log=self._folder / "epmd.log", keep=self._keep)
        self._child.start()
        self._child.wait_until_ready(lambda: _probe(port), limit_s=_READY_S, poll_s=0.02)

    def check(self) -> None:
        """Raise `NotStarted` if it has ended: what answered on its port then was somebody else's."""
        if self._child:
            self._child.check()

    def stop(self) -> None:
        """Stop it; does nothing if it does not run."""
        if self._child:
            self._child.stop(grace_s=5)


def _probe(port: int) -> str | None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError as error:
        return str(error)
    return None
