"""Two allocators on servers that may be clusters, and networks in all partitions."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from allocator import schema
from allocator.database import open_engine
from broker import provisioning
from compose.asking import ask
from compose.services.process import Child
from compose.stack import start
from schemas.network import NetworkCreate, NetworkView

NODE = "n1"
NETWORKS = ("huge-0", "huge-1", "huge-2", "huge-3")
_SHARES = ("0,1", "2,3")
_WAIT_S = 60.0


@dataclass(frozen=True)
class System:
    """Where a node and an operator reach the broker."""

    node: str = field(repr=False)
    operator: str = field(repr=False)
    allocators: tuple[Child, ...]


@contextmanager
def running_system(management_url: str, amqp: str, database_url: str, folder: Path) -> Iterator[System]:
    """Two allocators while the context lasts; the networks of `NETWORKS` exist, each with 16,382 addresses.

    `amqp` is HOST:PORT of each broker, with commas between; logs go into `folder`, which is made. Raises
    ServiceError.
    """
    folder.mkdir()
    engine = open_engine(database_url)
    try:
        schema.upgrade(engine)
    finally:
        engine.dispose()
    provisioning.provision(management_url)
    allocator = provisioning.enroll_allocator(management_url, amqp=amqp, rotate=True)
    operator = provisioning.enroll_client(management_url, "bench", "operator", amqp=amqp, rotate=True)
    node = provisioning.enroll_node(management_url, NODE, amqp=amqp, rotate=True)
    env = {"MOORAGE_AMQP_URL": allocator.amqp_url, "MOORAGE_DATABASE_URL": database_url}
    with ExitStack() as undo:
        allocators = tuple(
            start(
                f"allocator {share}",
                ["allocator"],
                {**env, "MOORAGE_ALLOCATOR_PARTITIONS": share},
                folder / f"allocator-{share[0]}.log",
                undo,
            )
            for share in _SHARES
        )
        for number, network in enumerate(NETWORKS):
            subnets = [{"cidr": f"10.{100 + number}.0.0/18"}]
            body = {"request_id": uuid4().hex, "network": network, "subnets": subnets}
            ask(operator.amqp_url, NetworkCreate.model_validate(body), NetworkView, timeout_s=_WAIT_S)
        yield System(node.amqp_url, operator.amqp_url, allocators)
