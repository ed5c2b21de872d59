"""A simulated host from outside: its links, the CNI plugins a runtime finds on it, and what is mounted."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from node_worker.netlink import simulated

_RESULTS = Path("/var/lib/cni/results")  # where runtimes keep what an ADD answered, until its DEL (libcni)
_NAMESPACES = ("/run/netns/", "/var/run/netns/")
REFERENCE_PLUGINS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins puts them."""


def inside(netns: Path, *command: str | Path) -> str:
    """What a command prints that must succeed, run in that network namespace within 20 s."""
    argv = ["nsenter", f"--net={netns}", *map(str, command)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(netns: Path, address: str) -> bool:
    """Whether a ping from that network namespace is answered."""
    argv = ["nsenter", f"--net={netns}", "ping", "-c", "1", "-W", "2", address]
    return subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode == 0


def links(netns: Path) -> set[str]:
    """The names of all links there."""
    return {line.split(": ")[1] for line in inside(netns, "ip", "-o", "link", "show").splitlines()}


@dataclass(frozen=True)
class Call:
    """A call of the plugin as the runtime made it."""

    command: str
    container_id: str
    ifname: str
    netns: str


class Plugins:
    """A folder of CNI plugins, ours among them, that notes each call of ours before it is served."""

    def __init__(self, folder: Path, shim: Path, *reference: str) -> None:
        folder.mkdir()
        self.folder, self._log = folder, folder.with_suffix(".calls")
        noted = '\'%s|%s|%s|%s\\n\' "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_IFNAME" "$CNI_NETNS"'
        ours = folder / "moorage"
        ours.write_text(f"#!/bin/sh\nprintf {noted} >>'{self._log}'\nexec '{shim}'\n")
        ours.chmod(0o755)
        for name in reference:
            (folder / name).symlink_to(REFERENCE_PLUGINS / name)

    def calls(self, container_id: str | None = None) -> list[Call]:
        """What was called so far, in order: for that container alone if it is named."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        every = [Call(*line.split("|")) for line in lines]
        return [call for call in every if container_id in (None, call.container_id)]

    def forget(self) -> None:
        """Remove what is left of containers whose DEL the runtime did not see through."""
        for call in self.calls():
            if not call.netns.startswith(_NAMESPACES):
                continue
            for kept in _RESULTS.glob(f"*-{call.container_id}-*"):
                kept.unlink(missing_ok=True)
            simulated.remove_netns(Path(call.netns).name)


def arguments_of(pid: int) -> list[str]:
    """The words that a process was started with; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def unmount_below(folder: Path) -> None:
    """Unmount everything that is mounted in `folder`."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", point], check=True, timeout=20)
