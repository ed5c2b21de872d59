"""Private containerds, each in the network namespace of a simulated host, and the sandboxes they run."""

import contextlib
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from compose.services.process import Child
from compose.stack import RunningNode
from tests.acceptance.cri import Cri
from tests.acceptance.hosts import Plugins, answers, arguments_of, inside, unmount_below
from tests.acceptance.machines import until

CONFLIST = Path(__file__).parent / "conf" / "containerd.conflist"
PAUSE = "docker.io/local/pause:1"

# restrict_oom_score_adj and disable_apparmor: a machine that is itself a container lacks the rights.
_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_apparmor = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/net.d"
"""


class Sandbox:
    """A pod sandbox that runs, or ran."""

    def __init__(self, runtime: "Containerd", sandbox_id: str) -> None:
        self.runtime, self.id = runtime, sandbox_id
        info = json.loads(runtime.cri.status(sandbox_id)["info"]["info"])
        namespaces = info["runtimeSpec"]["linux"]["namespaces"]
        self.pid: int = info["pid"]
        self.netns = Path(next(space["path"] for space in namespaces if space["type"] == "network"))

    @property
    def ip(self) -> str:
        """The address that CRI reports."""
        return str(self.runtime.cri.status(self.id)["status"]["network"]["ip"])

    @property
    def ready(self) -> bool:
        """Whether CRI takes the sandbox for a running one."""
        return bool(self.runtime.cri.status(self.id)["status"]["state"] == "SANDBOX_READY")

    def interface(self) -> tuple[list[str], str]:
        """The addresses and the MAC that the kernel has on the pod's eth0."""
        (link,) = json.loads(inside(self.netns, "ip", "-j", "-4", "addr", "show", "eth0"))
        (ether,) = json.loads(inside(self.netns, "ip", "-j", "link", "show", "eth0"))
        return [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]], ether["address"]

    def reaches(self, address: str) -> bool:
        """Whether a ping from the pod is answered."""
        return answers(self.netns, address)

    def stop(self) -> None:
        """StopPodSandbox. Raises `grpc.RpcError` if it fails."""
        self.runtime.cri.stop(self.id)

    def remove(self) -> None:
        """RemovePodSandbox. Raises `grpc.RpcError` if it fails."""
        self.runtime.cri.remove(self.id)

    def end(self) -> None:
        """Stop it and remove it."""
        self.stop()
        self.remove()


class Containerd:
    """A containerd as the only one of its host."""

    def __init__(self, node: RunningNode, shim: Path, folder: Path) -> None:
        self.node, self.folder, self.host = node, folder, node.host.path
        self._socket = folder / "containerd.sock"
        self.plugins = Plugins(folder / "plugins", shim, "loopback")
        (folder / "net.d").mkdir()
        (folder / "net.d" / "10-moorage.conflist").write_text(CONFLIST.read_text())
        config = folder / "config.toml"
        config.write_text(
            _CONFIG.format(folder=folder, socket=self._socket, image=PAUSE, plugins=self.plugins.folder)
        )
        self.process = Child(
            f"containerd of {node.name}",
            ["nsenter", f"--net={self.host}", "containerd", "--config", config],
            env={"PATH": os.environ["PATH"], "MOORAGE_CNI_SOCKET": str(node.socket)},
            log=folder / "containerd.log",
        )
        self.cri = Cri(self._socket, folder)

    def start(self) -> None:
        """Start it and return once it answers. Raises `NotStarted`."""
        self.process.start()
        self.process.wait_until_ready(self._why_not, limit_s=30)

    def import_image(self, archive: Path) -> None:
        """Make the pause image known to it."""
        ctr = ["ctr", "--address", self._socket, "-n", "k8s.io", "images", "import", "--no-unpack", archive]
        subprocess.run(ctr, check=True, capture_output=True, timeout=60)
        until(lambda: self.cri.has_image(PAUSE))

    def run(self, owner: str, **annotations: str) -> Sandbox:
        """A new sandbox for that pod, with its `moorage.io/` annotations. Raises `grpc.RpcError`."""
        namespace, name = owner.split("/")
        config: dict[str, Any] = {
            "metadata": {"name": name, "uid": str(uuid.uuid4()), "namespace": namespace},
            "hostname": name,
            "annotations": {f"moorage.io/{key}": value for key, value in annotations.items()},
        }
        return Sandbox(self, self.cri.run(config))

    def empty(self) -> None:
        """End every sandbox there is."""
        for sandbox in self.cri.sandboxes():
            self.cri.stop(sandbox)
            self.cri.remove(sandbox)

    def close(self) -> None:
        """End everything that it started and unmount what it mounted, in whatever state it is."""
        try:
            if self.process.pid is not None:
                with contextlib.suppress(grpc.RpcError):
                    self.empty()
        finally:
            self.cri.close()
            self.process.stop(10)
            for pid in [*self._shims(), *self._inits()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            unmount_below(self.folder)
            self.plugins.forget()

    def _why_not(self) -> str | None:
        try:
            self.cri.sandboxes(limit_s=1)
        except grpc.RpcError as error:
            return str(error)
        return None

    def _shims(self) -> list[int]:
        """containerd's own shims outlive it: they are told by the socket that is among their arguments."""
        every = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
        return [pid for pid in every if str(self._socket) in arguments_of(pid)]

    def _inits(self) -> list[int]:
        """The first processes of sandboxes that were not removed, and still are what the image runs."""
        tasks = self.folder / "state" / "io.containerd.runtime.v2.task" / "k8s.io"
        pids = [int(file.read_text()) for file in tasks.glob("*/init.pid")]
        return [pid for pid in pids if arguments_of(pid) == ["/sleeper"]]


@contextmanager
def containerd_on(node: RunningNode, shim: Path, folder: Path, image: Path) -> Iterator[Containerd]:
    """A containerd with the pause image; at the end nothing of it is left."""
    folder.mkdir()
    runtime = Containerd(node, shim, folder)
    try:
        runtime.start()
        runtime.import_image(image)
        yield runtime
    finally:
        runtime.close()
