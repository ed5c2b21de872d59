"""Pods without Kubernetes: fresh namespaces, wired by running the CNI executable as a runtime does."""

import json
import os
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose.demo.story import StepFailed
from node_worker.netlink import simulated

_CALL_S = 70


@dataclass(frozen=True)
class CniAnswer:
    """What the executable printed, and how long it took, in milliseconds."""

    body: dict[str, Any]
    took_ms: float


@dataclass
class Sandbox:
    """One sandbox of a pod on one node: what a container runtime makes before it calls the plugin."""

    owner: str
    node: str
    socket: Path
    shim: Path
    network: str
    netns: str
    container_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self) -> CniAnswer:
        """Make the namespace and attach it; the CNI result."""
        simulated.create_netns(self.netns)
        return self._call("ADD")

    def stop(self) -> None:
        """Detach and remove the namespace, in the order of a runtime."""
        self.detach()
        self.remove()

    def detach(self) -> CniAnswer:
        """A CNI DEL, which may come late and twice."""
        return self._call("DEL")

    def remove(self) -> None:
        """Remove the namespace."""
        simulated.remove_netns(self.netns)

    def _call(self, command: str) -> CniAnswer:
        namespace, name = self.owner.split("/")
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": str(simulated.netns_path(self.netns)),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.shim.parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}",
            "MOORAGE_CNI_SOCKET": str(self.socket),
        }
        conf = {"cniVersion": "1.1.0", "name": "pods", "type": "moorage", "network": self.network}
        started = time.monotonic()
        done = subprocess.run(
            [self.shim],
            env=env,
            input=json.dumps(conf).encode(),
            capture_output=True,
            timeout=_CALL_S,
            check=False,
        )
        took_ms = (time.monotonic() - started) * 1000
        if done.returncode != 0:
            raise StepFailed(f"CNI {command} of {self.owner} on {self.node} failed: {done.stdout.decode()}")
        return CniAnswer(json.loads(done.stdout) if done.stdout.strip() else {}, took_ms)

    def ping(self, address: str) -> float:
        """Round-trip time to `address` in milliseconds, from inside the pod. Raises StepFailed."""
        command = [
            "nsenter",
            f"--net={simulated.netns_path(self.netns)}",
            "ping",
            "-n",
            "-c",
            "3",
            "-i",
            "0.2",
            "-W",
            "2",
        ]
        done = subprocess.run([*command, address], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            raise StepFailed(
                f"{self.owner} on {self.node} does not reach {address}: {done.stdout}{done.stderr}"
            )
        return float(done.stdout.rsplit("=", 1)[1].split("/")[1])


def address_of(answer: CniAnswer) -> str:
    """The pod's one address, without its prefix."""
    return str(answer.body["ips"][0]["address"]).split("/")[0]


def mac_of(answer: CniAnswer) -> str:
    """The MAC of the interface inside the pod."""
    return next(str(i["mac"]) for i in answer.body["interfaces"] if i.get("sandbox"))
