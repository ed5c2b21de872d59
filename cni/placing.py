"""One file put in its place, or taken away, so that nobody ever meets half of it.

A process that is killed meanwhile leaves the old file and at most a temporary one, which the next goes over.
"""

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from schemas.errors import Code, ServiceError

Placed = Literal["installed", "replaced", "unchanged"]

_ADVICE = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk",
    errno.EACCES: "run this as root, or name another folder",
    errno.EPERM: "run this as root, or name another folder",
    errno.EROFS: "its file system is read-only: name another folder",
    errno.ENOTDIR: "part of that path is not a folder: name another one",
    errno.EISDIR: "a folder has that name: move it away",
}


def content_of(path: Path) -> bytes | None:
    """What is in the file; None where there is none. Raises ServiceError when it cannot be read."""
    with _translated("read", path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def place(target: Path, content: bytes, mode: int, probe: Callable[[Path], object]) -> Placed:
    """Let `target` be a file with this content and mode, on the disk when this returns; makes its folder.

    `probe` is given the new file before it takes the name, or the present one if it stays. Raises what it
    raises, and ServiceError when the folder cannot be written; `target` is then as it was.
    """
    with _translated("make", target.parent):
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _alone_in(target.parent), _translated("write", target):
        _sweep(target)
        present = content_of(target)
        if present == content and target.stat().st_mode & 0o7777 == mode:
            probe(target)
            return "unchanged"
        _replace(target, content, mode, probe)
        _flush(target.parent)
    return "installed" if present is None else "replaced"


def remove(target: Path) -> bool:
    """Let there be no file `target`; whether there was one. Raises ServiceError."""
    if not target.parent.is_dir():
        return False
    with _alone_in(target.parent), _translated("remove", target):
        _sweep(target)
        try:
            target.unlink()
        except FileNotFoundError:
            return False
        _flush(target.parent)
    return True


def _replace(target: Path, content: bytes, mode: int, probe: Callable[[Path], object]) -> None:
    # The same folder: containerd takes no notice of a file moved in from another one. The ending is none
    # that a runtime loads.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    try:
        _write(temporary, content, mode)
        probe(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _sweep(target: Path) -> None:
    """Remove what killed processes left. Nobody else is at work: the folder is locked."""
    left = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.new")
    for path in target.parent.iterdir():
        if left.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with _translated("open", folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ServiceError(
                    Code.UNAVAILABLE,
                    f"another `moorage cni` command is at work in {folder}: run this again when it is done",
                ) from None
            yield
        finally:
            os.close(descriptor)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        name = errno.errorcode.get(number, str(number))
        advice = _ADVICE.get(number, "look at that path and its disk, then run this again")
        raise ServiceError(
            Code.INTERNAL, f"cannot {verb} {path} ({name}): {advice}", path=str(path), errno=name
        ) from error
