"""The product on servers of its own: two allocators, three nodes, and how each of them is killed."""

import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.machine import GRACE_S, Machine, Place
from bench.soak.plan import ALLOCATORS, BROKER, DATABASE, NODES
from bench.soak.sandbox import Sandbox
from compose.asking import ask, wait_for_nodes
from compose.hosts import UPLINK, Host, prefix_of, remove_leftovers, simulated_hosts
from compose.services.process import Child
from node_worker.plan import bridge_name, tunnel_name
from schemas.message import Message
from schemas.network import NetworkCreate, NetworkView
from schemas.pool import PoolCreate, PoolView

PINNED_POOLS = ("web", "db", "held")
TUNNELS, DUAL = "tunnels", "dual"


class Victim(Protocol):
    """What can be killed and started again."""

    def start(self) -> None:
        """Start it; it may not serve yet."""

    def kill(self) -> None:
        """SIGKILL it."""


@dataclass(frozen=True)
class Target:
    """One of them, and how to see that it runs."""

    name: str
    victim: Victim
    pids: Callable[[], Sequence[int]]
    processes: int
    """How many processes it has while it runs."""
    log: Path

    @property
    def runs(self) -> bool:
        """Whether all its processes are there."""
        return len(self.pids()) == self.processes


@dataclass(frozen=True)
class Node:
    """A simulated machine."""

    host: Host
    socket: Path
    journal: Path


@dataclass(frozen=True)
class World:
    """All that runs, by name."""

    machine: Machine
    place: Place
    database_url: str
    targets: Mapping[str, Target]
    nodes: Mapping[str, Node]

    @property
    def ports(self) -> Mapping[str, int]:
        """Where the servers listen."""
        services = self.machine.services
        return {BROKER: services.rabbitmq.ports.amqp, DATABASE: services.mariadb.port}

    @property
    def network_links(self) -> frozenset[str]:
        """What the networks are made of on every node."""
        return frozenset({bridge_name(TUNNELS), tunnel_name(TUNNELS), bridge_name(DUAL)})

    def sandbox(self, owner: str, network: str, node: str) -> Sandbox:
        """A new one, without its namespace yet."""
        netns = f"{prefix_of(self.machine.services.state_dir)}-{uuid.uuid4().hex[:8]}"
        return Sandbox(owner, network, node, self.nodes[node].socket, netns, uuid.uuid4().hex)

    def cut(self, target: str, server: str) -> None:
        """Reset all connections of a process to a server (ss(8), -K)."""
        for pid in self.targets[target].pids():
            for port in _local_ports(pid, self.ports[server]):
                words = ["ss", "-K", "sport", "=", f":{port}", "dport", "=", f":{self.ports[server]}"]
                subprocess.run(words, check=False, capture_output=True, timeout=10)


def _local_ports(pid: int, server_port: int) -> list[str]:
    words = ["ss", "-H", "-t", "-n", "-p", "state", "established", "dport", "=", f":{server_port}"]
    shown = subprocess.run(words, check=True, capture_output=True, text=True, timeout=10).stdout
    mine = [line.split() for line in shown.splitlines() if f"pid={pid}," in line]
    return [columns[2].rpartition(":")[2] for columns in mine]


@contextmanager
def world(machine: Machine) -> Iterator[World]:
    """Everything, with networks and pools, while the context lasts; no process or namespace is left."""
    place, database_url = machine.place("soak"), machine.database("soak")
    services = machine.services
    prefix = prefix_of(services.state_dir)
    with ExitStack() as undo:
        undo.callback(remove_leftovers, prefix)
        hosts = undo.enter_context(simulated_hosts(NODES, prefix))
        nodes = {host.node: _node(services.state_dir, host) for host in hosts}
        children = [
            *(_allocator(machine, place, database_url, name) for name in ALLOCATORS),
            *(_worker(machine, place, node) for node in nodes.values()),
        ]
        targets = {child.name: _target(child) for child in children}
        for child in children:
            undo.callback(child.stop, GRACE_S)
            child.start()
        broker, database = services.rabbitmq, services.mariadb
        logs = services.state_dir
        targets[BROKER] = Target(BROKER, broker, lambda: broker.pids, 2, logs / "rabbitmq" / "rabbitmq.log")
        targets[DATABASE] = Target(
            DATABASE, database, lambda: database.pids, 1, logs / "mariadb" / "mariadb.log"
        )
        made = World(machine, place, database_url, targets, nodes)
        wait_for_nodes(place.operator, NODES, lambda: _check(children))
        _make_networks(place.operator)
        yield made


def _check(children: Sequence[Child]) -> None:
    """Raise RuntimeError, with the end of its log, for one that has ended: nothing was killed yet."""
    for child in children:
        if child.pid is None:
            raise RuntimeError("\n".join([f"the {child.name} ended by itself:", *child.tail()]))


def _node(state_dir: Path, host: Host) -> Node:
    folder = state_dir / host.node
    folder.mkdir()
    return Node(host, folder / "cni.sock", folder / "journal.sqlite")


def _allocator(machine: Machine, place: Place, database_url: str, name: str) -> Child:
    number = ALLOCATORS.index(name)
    env = {
        "MOORAGE_AMQP_URL": place.allocator,
        "MOORAGE_DATABASE_URL": database_url,
        "MOORAGE_ALLOCATOR_PARTITIONS": ("0,1", "2,3")[number],
    }
    return machine.child(name, ["compose.cli", "allocator"], env)


def _worker(machine: Machine, place: Place, node: Node) -> Child:
    env = {
        "MOORAGE_AMQP_URL": machine.enroll_node(place, node.host.node),
        "MOORAGE_NODE_NAME": node.host.node,
        "MOORAGE_NODE_NETNS": str(node.host.path),
        "MOORAGE_NODE_DIR": str(node.journal.parent),
        "MOORAGE_CNI_SOCKET": str(node.socket),
        "MOORAGE_RECONCILE_S": "5",
    }
    return machine.child(node.host.node, ["compose.cli", "node"], env)


def _target(child: Child) -> Target:
    return Target(child.name, child, lambda: [child.pid] if child.pid is not None else [], 1, child.log)


def _make_networks(url: str) -> None:
    """One of tunnels, IPv4 alone; one on the underlay with both families, where addresses are probed."""
    _network(url, TUNNELS, {"type": "vxlan", "vni": 77}, "10.79.0.0/24")
    _network(url, DUAL, {"type": "bridge", "uplink": UPLINK}, "10.78.0.0/24", "fd00:78::/64")
    _pool(url, TUNNELS, "web", "pinned", "shop/web-*", "10.79.0.10-10.79.0.17")
    _pool(url, TUNNELS, "api", "shared", "bank/api-*", "10.79.0.32-10.79.0.63")
    _pool(url, TUNNELS, "held", "pinned", "shop/held-*", "10.79.0.128-10.79.0.191")
    _pool(url, DUAL, "db", "pinned", "shop/db-*", "10.78.0.10-10.78.0.14", "fd00:78::10-fd00:78::14")
    _pool(url, DUAL, "jobs", "shared", "bank/job-*", "10.78.0.32-10.78.0.63", "fd00:78::20-fd00:78::3f")


def _network(url: str, name: str, driver: Mapping[str, object], *cidrs: str) -> None:
    body = {"request_id": uuid.uuid4().hex, "network": name, "driver": driver}
    subnets = [{"cidr": cidr} for cidr in cidrs]
    _asked(url, NetworkCreate.model_validate(body | {"subnets": subnets, "deadline_s": 120}), NetworkView)


def _pool(url: str, network: str, name: str, policy: str, owners: str, *ranges: str) -> None:
    """Freed addresses are given to others at once: whoever still used one would be found out."""
    body = {"request_id": uuid.uuid4().hex, "network": network, "pool": name, "policy": policy}
    body |= {"owners": [owners], "ranges": list(ranges), "cooldown_s": 0}  # type: ignore[dict-item]
    _asked(url, PoolCreate.model_validate(body), PoolView)


def _asked(url: str, request: NetworkCreate | PoolCreate, answer: type[Message]) -> None:
    ask(url, request, answer, timeout_s=150)
