"""Where a pod's network namespace may be: under the folders in which runtimes keep them, nowhere else.

The node worker is root, and whoever may call its socket names a path for it to open.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import Code, ServiceError

NETNS_FOLDERS = (
    Path("/run/netns"),  # containerd, CRI-O, podman, `ip netns`
    Path("/var/run/netns"),
    Path("/proc"),  # /proc/PID/ns/net, as `ctr run --cni` names it
    Path("/run/docker/netns"),
    Path("/var/run/docker/netns"),
    Path("/run/user"),  # podman without root
)
"""What is allowed where nothing else is set."""

_KERNELS_OWN = re.compile(r"net:\[\d+\]")  # what /proc/PID/ns/net leads to (namespaces(7))


def check_named(path: str, folders: Sequence[Path]) -> None:
    """Raise ServiceError `netns_unusable` when `path` has a `..` or is under none of `folders`."""
    named = Path(path)
    if ".." in named.parts:
        raise _refused(path, "has a '..' in it", folders)
    if not _is_under(named, folders):
        raise _refused(path, "is not in a folder that is allowed", folders)


def check_opened(path: str, place: str, folders: Sequence[Path]) -> None:
    """Raise ServiceError `netns_unusable` when `path` has led out of `folders`, through a link.

    `place` is where it led to, in the kernel's words. A folder of ours may be a link itself, as /var/run is.
    """
    if _KERNELS_OWN.fullmatch(place) or _is_under(Path(place), folders):
        return
    if not _is_under(Path(place), [Path(os.path.realpath(folder)) for folder in folders]):
        raise _refused(path, f"leads to {place}, which is not in a folder that is allowed", folders)


def _is_under(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) and path != folder for folder in folders)


def _refused(path: str, what: str, folders: Sequence[Path]) -> ServiceError:
    told = ":".join(map(str, folders))
    return ServiceError(
        Code.NETNS_UNUSABLE,
        f"network namespace {path} {what}: if the runtime keeps its namespaces there, add that folder to the "
        f"node worker's setting MOORAGE_NETNS_FOLDERS, which is {told}",
        netns=path,
    )
