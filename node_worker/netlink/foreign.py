"""Interfaces that are not ours, in namespaces that only their inode tells: found, looked at, set down.

A namespace lives for as long as a process is in it or a mount holds it (namespaces(7)). Its path alone says
nothing: it may be unmounted while the pod lives, and be another's by now.
"""

import contextlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import inside
from node_worker.plan import IPInterface
from schemas.errors import ServiceError

_PROC = Path("/proc")
_INIT = "1"
"""The one process that is in no pod, whoever may look at it."""
_ENDED = (FileNotFoundError, ProcessLookupError)  # while it was looked at
_HOSTS_PROCESSES = 0xEFFFFFFC  # PROC_PID_INIT_INO, linux/proc_ns.h
_MOUNTED = re.compile(r"^\d+ \d+ \S+ net:\[(\d+)\] (\S+) .* - nsfs ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which namespace is meant. An inode is used again; with a cookie of 0 it has to do."""

    inode: int
    cookie: int

    def is_of(self, netns: Netns) -> bool:
        """Whether `netns` is the one."""
        return netns.inode == self.inode and self.cookie in (0, netns.cookie())


def gone(wanted: Collection[Identity]) -> set[Identity]:
    """Those of `wanted` that no process and no mount of this machine holds; none where that cannot be seen.

    A worker in a container without the host's process ids sees only its own processes, and one without
    CAP_SYS_PTRACE not which namespaces those of others are in (ptrace(2), "Ptrace access mode checking").
    """
    if (_PROC / "self/ns/pid").stat().st_ino != _HOSTS_PROCESSES:
        return set()
    try:
        held = dict(_held(*_ENDED))
    except PermissionError:
        return set()
    return {one for one in wanted if one.inode not in held or _is_another(held[one.inode], one)}


def silence(
    path: str, wanted: Identity, ifname: str, addresses: frozenset[IPInterface], *, take: bool = False
) -> None:
    """Set `ifname` down in that namespace, if it has one of `addresses`; with `take`, take these from it.

    Nothing to do where the namespace, the interface or the addresses are gone. Raises ServiceError
    `kernel_refused`.
    """
    pod = _found(path, wanted)
    if pod is None:
        return
    with pod, inside(pod) as links:
        link = links.find(ifname)
        if link is None or not addresses.intersection(links.addresses(link.index)):
            return
        if link.up:
            links.change(ifname, state="down")
        if take:  # IPv6 addresses are gone with the link that is down
            for address in addresses.intersection(links.addresses(link.index)):
                links.remove_address(link.index, address)


def remove(path: str, wanted: Identity, ifname: str, kind: str) -> None:
    """Remove `ifname` of that namespace, if it is a link of that kind.

    Nothing to do where the namespace or the interface are gone. Raises ServiceError `kernel_refused`.
    """
    pod = _found(path, wanted)
    if pod is None:
        return
    with pod, inside(pod) as links:
        link = links.find(ifname)
        if link is not None and link.kind == kind:
            links.remove(ifname)


def _found(path: str, wanted: Identity) -> Netns | None:
    """The namespace: where it was, or wherever else somebody holds it."""
    pod = _opened(path, wanted)
    if pod is not None:
        return pod
    for inode, place in _held(OSError):
        if inode == wanted.inode:
            pod = _opened(place, wanted)
            if pod is not None:
                return pod
    return None


def _opened(path: str, wanted: Identity) -> Netns | None:
    try:
        pod = Netns(path)
    except ServiceError:
        return None
    if wanted.is_of(pod):
        return pod
    pod.close()
    return None


def _is_another(path: str, wanted: Identity) -> bool:
    """Whether the namespace at `path` is certainly not the one. In doubt it may be."""
    try:
        with Netns(path) as pod:
            return not wanted.is_of(pod)
    except ServiceError:
        return False


def _held(*passed: type[OSError]) -> Iterator[tuple[int, str]]:
    """Each namespace that a process is in or a mount holds, and a path to it. Some come more than once.

    Passes over a process that it fails to look at with one of these errors, and raises any other.
    """
    seen = set()
    for process in _PROC.iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(*passed, *([PermissionError] if process.name == _INIT else [])):
            yield (process / "ns/net").stat().st_ino, str(process / "ns/net")
            mounts = (process / "ns/mnt").stat().st_ino
            if mounts not in seen:
                seen.add(mounts)
                yield from _mounted(process)


def _mounted(process: Path) -> Iterator[tuple[int, str]]:
    for inode, place in _MOUNTED.findall((process / "mountinfo").read_text(errors="surrogateescape")):
        yield int(inode), f"{process}/root{place}"
