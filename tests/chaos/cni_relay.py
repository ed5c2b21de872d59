"""A stand-in for a worker's CNI socket: it passes calls on, and keeps the answers to itself."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def keeping_answers(folder: Path, worker: Path, act: Callable[[], None]) -> Iterator[Path]:
    """The path of a socket whose calls reach `worker`; `act` happens when it answers one, who hears nothing.

    The first bytes of the answer are taken for the answer: by then the call was served.
    """
    path = folder / "relay.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, worker, act), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)
            path.unlink()


def _serve(listener: socket.socket, worker: Path, act: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        client, _ = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(worker))
            up = threading.Thread(target=_pass_on, args=(client, server), daemon=True)
            up.start()
            if server.recv(1):
                act()
            client.shutdown(socket.SHUT_RDWR)  # closed alone, it would stay open for who reads from it


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(1 << 16):
            server.sendall(data)
