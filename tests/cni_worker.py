"""A node worker that answers STATUS from a list, for what is plain code: in a thread, on a real socket."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni import wire


@dataclass
class FakeWorker:
    """Says `reasons` one after another, then that it is ready."""

    socket: Path
    reasons: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The configurations that it was asked STATUS with."""
    hook: Callable[[], None] = lambda: None
    """Called before each answer."""

    def answer(self, body: bytes) -> bytes:
        env, stdin = wire.decode_call(body)
        assert env["CNI_COMMAND"] == "STATUS"
        self.asked.append(json.loads(stdin))
        self.hook()
        if not self.reasons:
            return wire.encode_answer(0, b"")
        said = {"cniVersion": "1.1.0", "code": 50, "msg": self.reasons.pop(0)}
        return wire.encode_answer(1, json.dumps(said).encode())


@contextmanager
def fake_worker(path: Path, *reasons: str) -> Iterator[FakeWorker]:
    """One that listens on `path` while the context lasts."""
    worker = FakeWorker(path, list(reasons))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening, worker))
        thread.start()
        try:
            yield worker
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # ends accept()
            thread.join(10)


def _serve(listening: socket.socket, worker: FakeWorker) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as stream:
            connection.settimeout(10)
            body = stream.read(wire.body_length(stream.read(wire.HEADER_BYTES)))
            connection.sendall(worker.answer(body))
