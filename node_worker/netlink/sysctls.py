"""Where the kernel's settings are written: a container's own /proc/sys cannot be, whatever it may do."""

from functools import cache
from pathlib import Path

_OWN = Path("/proc/sys")
_MOUNTED = Path("/host/proc/sys")
"""Where a container has the host's /proc/sys/net, which runtimes do not let it have at its own place."""


def writable(key: str) -> Path:
    """The file of `key`, such as net/ipv4/ip_forward.

    Through either path the kernel shows the namespace that the calling thread is in (network_namespaces(7)).
    """
    return _folder() / key


@cache
def _folder() -> Path:
    return _MOUNTED if (_MOUNTED / "net").is_dir() else _OWN
