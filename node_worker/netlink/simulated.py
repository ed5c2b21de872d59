"""Simulated hosts: named network namespaces that stand for machines, joined by an underlay switch.

For `moorage up`, the demo and tests. The names are those that `ip netns` shows. As all of this package, these
are plain calls: async code makes them in a thread.
"""

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from ipaddress import IPv4Network, ip_interface
from pathlib import Path
from typing import Any

from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import Refused, inside

_CLONE_NEWNET = 0x40000000  # sched.h
_MS_BIND, _MS_REC, _MS_SHARED = 4096, 16384, 1 << 20  # linux/mount.h
_MNT_DETACH = 2
_FOLDER = Path("/run/netns")


def netns_path(name: str) -> Path:
    """Where the namespace of that name is."""
    return _FOLDER / name


def netns_names() -> list[str]:
    """The names of all named namespaces of this machine."""
    return sorted(path.name for path in _FOLDER.iterdir()) if _FOLDER.is_dir() else []


def create_netns(name: str) -> None:
    """Make a named namespace with its loopback up. Raises ServiceError, EEXIST where the name is taken."""
    _share_folder()
    path = netns_path(name)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    except OSError as error:
        raise Refused(f"make namespace {name}", error.errno or 0) from error
    failures: list[Refused] = []
    # A thread of its own: it ends inside the new namespace.
    thread = threading.Thread(target=_fill, args=(path, failures), name="create-netns")
    thread.start()
    thread.join()
    if failures:
        path.unlink()
        raise failures[0]
    try:
        with Netns(str(path)) as netns, inside(netns) as links:
            links.change("lo", state="up")
    except BaseException:
        remove_netns(name)
        raise


def remove_netns(name: str) -> None:
    """Remove a named namespace and all links in it. Safe to call twice."""
    path = netns_path(name)
    number = _call("umount2", os.fsencode(path), _MNT_DETACH)
    if number not in (0, errno.ENOENT, errno.EINVAL):  # EINVAL: not mounted, it was made only halfway
        raise Refused(f"unmount namespace {name}", number)
    path.unlink(missing_ok=True)


def connect_hosts(
    underlay: str,
    hosts: Sequence[str],
    *,
    uplink: str = "eth1",
    mtu: int = 1500,
    subnet: IPv4Network | None = None,
) -> None:
    """Join the namespaces `hosts` by a switch in a new namespace `underlay`.

    Each host gets an interface `uplink`, up; port n of the switch is the n-th host. With `subnet` the n-th
    host has its n-th address there, and its default route that way; else no address.
    Remove it with `remove_netns(underlay)`: the kernel takes the uplinks away a moment later. When it fails
    nothing is left.
    """
    create_netns(underlay)
    try:
        with Netns(str(netns_path(underlay))) as switch, inside(switch) as links:
            links.add("switch", "bridge", mtu=mtu, br_forward_delay=0, br_mcast_snooping=0, state="up")
            master = links.find("switch")
            for number, name in enumerate(hosts, 1):
                with Netns(str(netns_path(name))) as host:
                    peer = {"ifname": uplink, "net_ns_fd": host.fd, "mtu": mtu}
                    port, index = f"port{number}", master.index if master is not None else 0
                    links.add(port, "veth", mtu=mtu, master=index, state="up", peer=peer)
                    with inside(host) as there:
                        there.change(uplink, state="up")
                        end = there.find(uplink)
                        if subnet is not None and end is not None:
                            there.add_address(end.index, ip_interface(f"{subnet[number]}/{subnet.prefixlen}"))
                            there.lead_out(end.index)
    except BaseException:
        remove_netns(underlay)
        raise


def _fill(path: Path, failures: list[Refused]) -> None:
    """Unshare the calling thread's namespace and keep the new one at `path`."""
    number = _call("unshare", _CLONE_NEWNET)
    if number == 0:
        number = _mount(b"/proc/thread-self/ns/net", path, _MS_BIND)
    if number != 0:
        failures.append(Refused(f"make a network namespace at {path}", number))


def _share_folder() -> None:
    """Make the folder a shared mount, as `ip netns` does, so that removals reach other mount namespaces."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    folder = os.open(_FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # `ip netns` takes it too: two at once would mount it twice
        if _mount(b"", _FOLDER, _MS_SHARED | _MS_REC) == 0:
            return
        number = _mount(os.fsencode(_FOLDER), _FOLDER, _MS_BIND | _MS_REC)
        if number == 0:
            number = _mount(b"", _FOLDER, _MS_SHARED | _MS_REC)
    finally:
        os.close(folder)
    if number != 0:
        raise Refused(f"share {_FOLDER}", number)


def _mount(source: bytes, target: Path, flags: int) -> int:
    return _call("mount", source, os.fsencode(target), b"none", ctypes.c_ulong(flags), None)


def _call(function: str, *arguments: Any) -> int:
    """Call a function of the C library; 0, or its errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc[function](*arguments) != 0 else 0
