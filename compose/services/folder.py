"""The state folder: one user at a time, and what it lies on."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compose.services.errors import StateFolderUnusable

_LOCK = "services.lock"
_STOPPING_S = 30
_POLL_S = 0.05


@contextmanager
def locked(state_dir: Path) -> Iterator[int]:
    """Make the folder and hold it; gives the lock's descriptor.

    Children inherit the descriptor: when we are killed the folder stays locked until the last of them has
    stopped, so that nobody opens data that a dying server still writes.
    Raises `StateFolderUnusable` if another living process holds it.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateFolderUnusable(
            state_dir, f"cannot be made or written ({error.strerror}): choose another with MOORAGE_STATE_DIR"
        ) from error
    try:
        _acquire(descriptor, state_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
        # Closing is not enough: a helper of a server may hold the descriptor a moment longer than the server.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, state_dir: Path) -> None:
    deadline = time.monotonic() + _STOPPING_S
    while not _try_lock(descriptor):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        if _is_alive(holder):
            raise StateFolderUnusable(
                state_dir,
                f"in use by process {holder}: stop that one first, or choose another with MOORAGE_STATE_DIR",
            )
        if time.monotonic() > deadline:
            raise StateFolderUnusable(
                state_dir,
                f"process {holder} is gone, but servers it started still run after {_STOPPING_S} s: "
                f"find them with `fuser -v {state_dir / _LOCK}` and stop them",
            )
        time.sleep(_POLL_S)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: str) -> bool:
    return pid.isdecimal() and Path("/proc", pid).exists()


def filesystem(path: Path) -> str | None:
    """The kind of file system that `path` lies on, such as `ext4`; None where the kernel does not tell."""
    device = path.stat().st_dev
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return kind_of_device(mounts, f"{os.major(device)}:{os.minor(device)}")


def kind_of_device(mountinfo: str, device: str) -> str | None:
    """The file system of `major:minor` in the text of mountinfo (proc(5))."""
    for line in mountinfo.splitlines():
        place, _, source = line.partition(" - ")
        if place.split()[2:3] == [device] and source:
            return source.split()[0]
    return None
