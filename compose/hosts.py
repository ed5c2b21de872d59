"""Simulated hosts: a network namespace for each node, joined by two switches in namespaces of their own.

Nothing is made in the machine's own network namespace, so removing the namespaces removes everything.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from node_worker.netlink import simulated

UPLINK = "eth1"
"""The interface of each simulated host that joins the underlay. It has no address."""
FABRIC = "eth0"
"""The interface that each simulated host reaches the others with, by an address of its own."""
FABRIC_SUBNET = IPv4Network("192.168.77.0/24")


@dataclass(frozen=True)
class Host:
    """One simulated host and the namespace that stands for it."""

    node: str
    netns: str

    @property
    def path(self) -> Path:
        """The namespace as a path, the way every tool takes it."""
        return simulated.netns_path(self.netns)


def prefix_of(state_dir: Path) -> str:
    """What the names of all namespaces of one state folder begin with."""
    return f"moorage-{hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:6]}"


@contextmanager
def simulated_hosts(nodes: Sequence[str], prefix: str) -> Iterator[list[Host]]:
    """Hosts for `nodes`; gone again at the end, also what a killed predecessor with this prefix left."""
    remove_leftovers(prefix)
    hosts = [Host(node, f"{prefix}-{node}") for node in nodes]
    underlay = f"{prefix}-underlay"
    with ExitStack() as undo:
        for host in hosts:
            simulated.create_netns(host.netns)
            undo.callback(simulated.remove_netns, host.netns)
        names = [host.netns for host in hosts]
        simulated.connect_hosts(underlay, names, uplink=UPLINK)
        undo.callback(simulated.remove_netns, underlay)
        fabric = f"{prefix}-fabric"
        simulated.connect_hosts(fabric, names, uplink=FABRIC, subnet=FABRIC_SUBNET)
        undo.callback(simulated.remove_netns, fabric)
        yield hosts


def remove_leftovers(prefix: str) -> None:
    """Remove every namespace whose name begins with `prefix`."""
    for name in simulated.netns_names():
        if name.startswith(f"{prefix}-"):
            simulated.remove_netns(name)
