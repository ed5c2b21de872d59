"""The whole product on this machine for acceptance tests: the stack, its pods, and waiting for conditions."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from compose.asking import ask, wait_for_nodes
from compose.hosts import UPLINK, prefix_of
from compose.settings import Settings
from compose.stack import RunningNode, Stack, running_stack
from node_worker.netlink import simulated
from schemas.message import Message, Request
from schemas.network import NetworkCreate, NetworkView
from schemas.pool import PoolCreate, PoolView

A = TypeVar("A", bound=Message)
F = TypeVar("F")


class Pod:
    """A sandbox: a namespace of its own and one container id."""

    def __init__(self, machine: "Machine", owner: str, node: str, network: str = "prod") -> None:
        self.owner, self.node, self.network = owner, machine.node(node), network
        self.shim = machine.shim
        self.netns = f"{prefix_of(machine.stack.state_dir)}-{uuid.uuid4().hex[:6]}"
        self.container_id = uuid.uuid4().hex
        simulated.create_netns(self.netns)
        machine.undo.callback(simulated.remove_netns, self.netns)

    def call(
        self, command: str, conf: dict[str, Any] | None = None, **env: str
    ) -> tuple[int, dict[str, Any]]:
        """Exit status and what the executable printed."""
        namespace, name = self.owner.split("/")
        base = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": str(simulated.netns_path(self.netns)),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}",
            "MOORAGE_CNI_SOCKET": str(self.node.socket),
        }
        body = {"cniVersion": "1.0.0", "name": "pods", "type": "moorage", "network": self.network}
        done = subprocess.run(
            [self.shim],
            env=base | env,
            input=json.dumps(body | (conf or {})).encode(),
            capture_output=True,
            timeout=90,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}

    def add(self) -> dict[str, Any]:
        """The result of an ADD that must succeed."""
        status, answer = self.call("ADD")
        assert status == 0, answer
        return answer

    def delete(self) -> None:
        """A DEL that must succeed."""
        status, answer = self.call("DEL")
        assert status == 0, answer

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the pod's namespace."""
        inside = ["nsenter", f"--net={simulated.netns_path(self.netns)}", *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=10, check=False)

    def on_host(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace of the pod's node."""
        outside = ["nsenter", f"--net={self.node.host.path}", *command]
        return subprocess.run(outside, capture_output=True, text=True, timeout=10, check=False)

    @staticmethod
    def on_node(node: RunningNode, *command: str) -> str:
        """What a command says in the namespace of a node."""
        outside = ["nsenter", f"--net={node.host.path}", *command]
        return subprocess.run(outside, capture_output=True, text=True, timeout=10, check=False).stdout

    def reaches(self, address: str) -> bool:
        """Whether a ping is answered."""
        return self.run("ping", "-c", "1", "-W", "2", address).returncode == 0

    def links(self) -> str:
        """What the pod sees of its interface."""
        shown = self.run("ip", "-o", "addr", "show")
        assert shown.returncode == 0, shown.stderr
        return shown.stdout


class Machine:
    """A running stack and what a test does with it."""

    def __init__(self, stack: Stack, shim: Path, undo: ExitStack) -> None:
        self.stack, self.shim, self.undo = stack, shim, undo

    def node(self, name: str) -> RunningNode:
        """The node of that name."""
        return next(node for node in self.stack.nodes if node.name == name)

    def ask(self, request: Request, answer: type[A], timeout_s: float = 30) -> A:
        """Ask as an operator."""
        return ask(self.stack.console, request, answer, timeout_s=timeout_s)

    def wait_for_nodes(self) -> None:
        """Until all nodes are ready."""
        wait_for_nodes(self.stack.console, [node.name for node in self.stack.nodes], self.stack.check)

    def network(self, name: str, cidr: str, uplink: str | None = None) -> NetworkView:
        """A network on all nodes."""
        body = {
            "request_id": uuid.uuid4().hex,
            "network": name,
            "driver": {"type": "bridge", "uplink": uplink},
            "subnets": [{"cidr": cidr}],
        }
        return self.ask(NetworkCreate.model_validate(body), NetworkView)

    def pool(self, network: str, name: str, ranges: list[str], owners: list[str]) -> PoolView:
        """A pinned pool."""
        body = {"request_id": uuid.uuid4().hex, "network": network, "pool": name, "policy": "pinned"}
        return self.ask(PoolCreate.model_validate(body | {"ranges": ranges, "owners": owners}), PoolView)

    def command(self, *words: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `moorage` as a person would."""
        return subprocess.run(
            [sys.executable, "-m", "compose.cli", *words],
            env={**os.environ, "MOORAGE_AMQP_URL": url or self.stack.console.url(), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@contextmanager
def machine_of(state_dir: Path, shim: Path, nodes: int = 2, uplink: str | None = UPLINK) -> Iterator[Machine]:
    """A stack with network `prod`, by default on the underlay, and a pinned pool for shop/web-*."""
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    with running_stack(Settings().private(), state_dir, names, print) as stack, ExitStack() as undo:
        machine = Machine(stack, shim, undo)
        machine.wait_for_nodes()
        machine.network("prod", "10.77.0.0/24", uplink=uplink)
        machine.pool("prod", "web", ["10.77.0.10-10.77.0.19"], ["shop/web-*"])
        yield machine


def until(found: Callable[[], F | None], limit_s: float = 20) -> F:
    """The first result that is neither None nor False. Fails after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
