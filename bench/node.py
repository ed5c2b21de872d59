"""A node of a run: a network namespace as its host, and a real node worker process that wires it."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.calls import Plugin
from bench.machine import GRACE_S, Machine, Place
from compose.asking import ask
from compose.services.process import Child
from node_worker.netlink import simulated
from schemas.network import NetworkCreate, NetworkView

NODE = "bench-node"
NETWORK = "bench-cni"
_READY_S = 60
_POLL_S = 0.005


@dataclass(frozen=True)
class Node:
    """A host and the worker that wires it."""

    netns: str
    socket: Path
    worker: Child

    def run(self, *command: str) -> None:
        """Run a command on the host."""
        inside = f"--net={simulated.netns_path(self.netns)}"
        subprocess.run(["nsenter", inside, *command], check=True, timeout=30)


@contextmanager
def node(machine: Machine, place: Place) -> Iterator[Node]:
    """A host while the context lasts; its worker is not started yet."""
    netns, folder = f"mobench-{os.getpid()}", machine.services.state_dir / "node"
    folder.mkdir()
    env = {
        "MOORAGE_AMQP_URL": machine.enroll_node(place, NODE),
        "MOORAGE_NODE_NAME": NODE,
        "MOORAGE_NODE_NETNS": str(simulated.netns_path(netns)),
        "MOORAGE_NODE_DIR": str(folder),
        "MOORAGE_CNI_SOCKET": str(folder / "cni.sock"),
        "MOORAGE_LOG_LEVEL": "warning",
    }
    worker = machine.child("node worker", ["compose.cli", "node"], env)
    simulated.create_netns(netns)
    try:
        yield Node(netns, folder / "cni.sock", worker)
    finally:
        worker.stop(GRACE_S)
        simulated.remove_netns(netns)


def started(node: Node, plugin: Plugin) -> float:
    """Start the worker; the seconds until its STATUS is a success. Raises RuntimeError when it never is."""
    begun = time.perf_counter()
    node.worker.start()
    while not plugin.is_ready():
        if time.perf_counter() - begun > _READY_S or node.worker.pid is None:
            raise RuntimeError(f"the node worker does not get ready: {node.worker.tail()}")
        time.sleep(_POLL_S)
    return time.perf_counter() - begun


def make_network(place: Place, cidr: str) -> None:
    """A bridge network; it is active at once where no node is known yet."""
    driver, subnets = {"type": "bridge"}, [{"cidr": cidr}]
    body = {"request_id": NETWORK, "network": NETWORK, "driver": driver, "subnets": subnets}
    ask(place.operator, NetworkCreate.model_validate(body), NetworkView)
