"""Three RabbitMQ nodes that make one cluster, on loopback ports: what tests of failover run on."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from broker import topology
from broker.login import joined
from broker.management import Management
from compose.services.identity import ensure_identity
from compose.services.programs import find_programs
from compose.services.rabbitmq import RabbitMQ

SIZE = 3
_PARTITIONS = {topology.allocator_queue(p) for p in range(topology.PARTITIONS)}


class RabbitMQCluster:
    """The nodes, which have all users and queues in common. Each may be killed, and started again."""

    def __init__(self, nodes: tuple[RabbitMQ, ...]) -> None:
        self.nodes = nodes

    @property
    def management_url(self) -> str:
        """The management API of all of them, as the administrator."""
        return joined([node.management_url for node in self.nodes])

    @property
    def addresses(self) -> str:
        """HOST:PORT of all, for clients."""
        return ",".join(f"127.0.0.1:{node.ports.amqp}" for node in self.nodes)

    def leading(self) -> RabbitMQ:
        """The node that leads the queues of most partitions: of all, before any was killed."""
        with Management(self.management_url) as api:
            leaders = [q["leader"] for q in api.get("queues") if q["name"] in _PARTITIONS]
        ((name, _),) = Counter(leaders).most_common(1)
        return self.nodes[int(name.partition("@")[0].rpartition("-")[2]) - 1]


@contextmanager
def rabbitmq_cluster(folder: Path, *, progress: Callable[[str], None]) -> Iterator[RabbitMQCluster]:
    """A cluster in `folder`, which must be empty, while the context lasts. Raises `NotStarted`.

    A node that is cut off from the majority pauses (rabbitmq-website, partitions).
    """
    identity, programs = ensure_identity(folder, data_exists=False), find_programs()
    names = [identity.node.replace("@", f"-{number}@") for number in range(1, SIZE + 1)]
    settings = {
        "cluster_formation.peer_discovery_backend": "classic_config",
        "cluster_formation.classic_config.nodes.1": names[0],
        "cluster_partition_handling": "pause_minority",
    }
    with ExitStack() as undo:
        nodes: list[RabbitMQ] = []
        for number, name in enumerate(names, start=1):
            home = folder / f"broker-{number}"
            home.mkdir(mode=0o700)
            node = RabbitMQ(
                home,
                programs,
                replace(identity, node=name),
                progress=progress,
                settings=settings,
                beside=nodes[0] if nodes else None,
            )
            undo.callback(node.stop)
            undo.callback(node.kill)  # nobody needs the data any more
            node.launch()
            if not nodes:
                node.wait_until_ready()
            nodes.append(node)
        for node in nodes[1:]:
            node.wait_until_ready()
        yield RabbitMQCluster(tuple(nodes))
