"""A private podman in the network namespace of a simulated host, and the containers it runs."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compose.stack import RunningNode
from tests.acceptance.hosts import Plugins, arguments_of, inside, unmount_below
from tests.acceptance.programs import compile_program, image_of

CONF = Path(__file__).parent / "conf"
PAUSE = "localhost/pause:1"

# What ends a container runs apart from the command, without its environment: the socket is set here for both.
# The limits on files and processes: a machine that is itself a container may not raise its own.
_CONFIG = """
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "{folder}/net.d"

[engine]
env = ["MOORAGE_CNI_SOCKET={socket}"]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
lock_type = "file"
tmp_dir = "{folder}/run"
infra_image = "{image}"

[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
"""
_STORAGE = """
[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/runroot"
"""


class Container:
    """A container that runs, or ran."""

    def __init__(self, podman: "Podman", name: str) -> None:
        self.podman, self.name = podman, name
        seen = podman.inspect(name)
        self.id: str = seen["Id"]
        self.netns = Path(f"/proc/{seen['State']['Pid']}/ns/net")

    def addresses(self, network: str) -> list[str]:
        """The addresses that podman reports for a network, IPv4 and IPv6."""
        told = self.podman.inspect(self.name)["NetworkSettings"]["Networks"][network]
        return [told[key] for key in ("IPAddress", "GlobalIPv6Address") if told[key]]

    def interface(self, ifname: str) -> tuple[list[str], str]:
        """The IPv4 addresses and the MAC that the kernel has on an interface of the container."""
        (link,) = json.loads(inside(self.netns, "ip", "-j", "addr", "show", ifname))
        given = [address for address in link["addr_info"] if address["family"] == "inet"]
        return [f"{a['local']}/{a['prefixlen']}" for a in given], link["address"]

    def remove(self) -> None:
        """Stop it and remove it."""
        self.podman("rm", "--force", "--time", "0", self.name)


class Podman:
    """A podman that runs in a host's namespace and keeps everything in one folder."""

    def __init__(self, node: RunningNode, shim: Path, folder: Path) -> None:
        self.node, self.folder, self.host = node, folder, node.host.path
        self.plugins = Plugins(folder / "plugins", shim, "portmap")
        (folder / "net.d").mkdir()
        for conflist in CONF.glob("podman-*.conflist"):
            shutil.copy(conflist, folder / "net.d")
        values = {"folder": folder, "plugins": self.plugins.folder, "socket": node.socket, "image": PAUSE}
        (folder / "containers.conf").write_text(_CONFIG.format(**values))
        (folder / "storage.conf").write_text(_STORAGE.format(**values))
        self._programs = folder / "programs"
        self._programs.mkdir()
        for name in ("sleeper", "listener"):
            compile_program(name, self._programs)

    def __call__(self, *words: str | Path) -> str:
        """What a podman command prints that must succeed within a minute."""
        done = self.attempt(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attempt(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """A podman command that may fail."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }
        argv = ["nsenter", f"--net={self.host}", "podman", *map(str, words)]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)

    def run(self, name: str, *options: str, program: tuple[str, ...] = ("/sleeper",)) -> Container:
        """A container with one of the programs in a root folder of its own."""
        self("run", "--detach", "--name", name, *options, *self.rootfs(name), *program)
        return Container(self, name)

    def rootfs(self, name: str) -> tuple[str, str]:
        """The options for a root folder with the programs."""
        root = self.folder / "roots" / name
        if not root.exists():
            shutil.copytree(self._programs, root)
        return "--rootfs", str(root)

    def inspect(self, name: str) -> dict[str, Any]:
        """All that podman knows of a container."""
        (seen,) = json.loads(self("container", "inspect", name))
        return dict(seen)

    def load_pause(self) -> None:
        """Make known the image of the process that holds a pod's namespaces."""
        self("load", "--input", image_of(self._programs / "sleeper", PAUSE))

    def empty(self) -> None:
        """Remove every pod and container there is."""
        self("pod", "rm", "--all", "--force", "--time", "0")
        self("rm", "--all", "--force", "--time", "0")

    def close(self) -> None:
        """End everything that it started and unmount what it mounted, in whatever state it is."""
        try:
            self.empty()
        finally:
            for pid in self._left():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            unmount_below(self.folder)
            self.plugins.forget()

    def _left(self) -> list[int]:
        """The monitors of containers, told by the folder among their arguments, and their children."""
        every = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
        monitors = [pid for pid in every if self._is_monitor(arguments_of(pid))]
        return [*monitors, *(pid for pid in every if _parent(pid) in monitors)]

    def _is_monitor(self, arguments: list[str]) -> bool:
        return bool(arguments) and Path(arguments[0]).name == "conmon" and str(self.folder) in str(arguments)


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@contextmanager
def podman_on(node: RunningNode, shim: Path, folder: Path) -> Iterator[Podman]:
    """A podman with the image for pods; at the end nothing of it is left."""
    folder.mkdir()
    podman = Podman(node, shim, folder)
    try:
        podman.load_pause()
        yield podman
    finally:
        podman.close()
