"""Network namespaces: opened once, checked, and entered by one thread for as long as it works there."""

import ctypes
import errno
import fcntl
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Self

from schemas.errors import Code, ServiceError

_CLONE_NEWNET = 0x40000000  # sched.h
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h


class Netns:
    """An open network namespace. It stays the same one whatever becomes of the path it was opened by."""

    def __init__(self, path: str) -> None:
        """Open `path`. Raises ServiceError `netns_unusable` when it is no network namespace."""
        self.path = path
        self._fd = -1
        self._fd = _opened(path)
        facts = os.fstat(self._fd)
        self.device, self.inode = facts.st_dev, facts.st_ino

    @property
    def fd(self) -> int:
        """Its file descriptor, for the kernel. It closes with this object."""
        return self._fd

    @property
    def place(self) -> str:
        """Where the kernel says it was opened: its path without links, or net:[INODE] (namespaces(7))."""
        return str(Path(f"/proc/self/fd/{self._fd}").readlink())

    def cookie(self) -> int:
        """What tells it from every other namespace since boot; 0 where the kernel does not say (before 5.14).

        An inode is used again as soon as its namespace is gone, a cookie never is.
        """
        with self.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as inside:
            try:
                told = inside.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
            except OSError:
                return 0
        return int.from_bytes(told, sys.byteorder)

    def is_same(self, other: "Netns") -> bool:
        """Whether both are one and the same namespace."""
        return (self.device, self.inode) == (other.device, other.inode)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calling thread work inside; sockets and /proc/sys files opened meanwhile belong there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._fd, self.path)
            try:
                yield
            finally:
                _return(home)
        finally:
            os.close(home)

    def close(self) -> None:
        """Let go of the namespace. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:  # a cancelled caller never got hold of it
        self.close()


def own() -> Netns:
    """The namespace that the calling thread is in."""
    return Netns("/proc/thread-self/ns/net")


def _opened(path: str) -> int:
    """Look before opening: a FIFO would block, a device might do something."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unusable(path, f"cannot be opened ({_reason(error)})") from error
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise _unusable(path, "is not a namespace file")
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, f"cannot be opened ({_reason(error)})") from error
    finally:
        os.close(place)
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        os.close(fd)
        raise _unusable(path, "is not a network namespace")
    return fd


def _return(home: int) -> None:
    """Back to where the thread came from, or nowhere: from a pod's namespace nothing else must be done."""
    try:
        _enter(home, "the worker's own")
    except ServiceError as error:
        print(f"node worker ends: it is caught in a pod's namespace: {error}", file=sys.stderr, flush=True)
        os._exit(os.EX_OSERR)


def _enter(fd: int, path: str) -> None:
    if _libc().setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise ServiceError(
            Code.KERNEL_REFUSED,
            f"the kernel refused to enter network namespace {path}: {errno.errorcode.get(number, number)}; "
            "run the node worker as root with CAP_SYS_ADMIN",
            operation="setns",
            errno=errno.errorcode.get(number, str(number)),
        )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, str(number)) if number is not None else str(error)


def _unusable(path: str, what: str) -> ServiceError:
    return ServiceError(
        Code.NETNS_UNUSABLE,
        f"network namespace {path} {what}: the runtime must keep the sandbox's namespace until DEL is done",
        netns=path,
    )
