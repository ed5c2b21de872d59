"""The socket file that the shim connects to: put in place at once, taken away only by who put it there."""

import contextlib
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

_SUN_PATH_BYTES = 107  # unix(7): 108 with the final NUL
_BACKLOG = 512


@dataclass(frozen=True)
class ListeningSocket:
    """A listening unix socket under a path; `identity` is its file's device and inode."""

    sock: socket.socket
    path: Path
    identity: tuple[int, int]

    def remove(self) -> None:
        """Take the file away, unless another process has put its own there. Safe to call twice.

        Does nothing once `sock` is closed: from then on the kernel may give our inode to another file.
        """
        with contextlib.suppress(FileNotFoundError):
            if self.sock.fileno() >= 0 and _identity(self.path) == self.identity:
                self.path.unlink()


def listen(path: Path) -> ListeningSocket:
    """Listen at `path`, mode 0600, in place of a socket that an earlier process left there.

    It is bound under another name and renamed, so a caller meets the old socket or the new one and never a
    gap. Raises ValueError when the path is too long or holds something else than a socket; OSError otherwise.
    """
    aside = path.with_name("." + secrets.token_hex(16)[: max(7, len(path.name) - 1)])
    longest = max(len(os.fsencode(path)), len(os.fsencode(aside)))
    if longest > _SUN_PATH_BYTES:
        raise ValueError(
            f"the socket path {path} is too long: a unix socket's path holds at most {_SUN_PATH_BYTES} bytes "
            f"and this one needs {longest}; choose a shorter one"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise ValueError(f"{path} is not a socket: move it away, or choose another socket path")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(aside))
        aside.chmod(0o600)  # before listen(): until then nobody can connect
        sock.listen(_BACKLOG)
        identity = _identity(aside)
        aside.replace(path)
    except BaseException:
        sock.close()
        aside.unlink(missing_ok=True)
        raise
    return ListeningSocket(sock, path, identity)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
