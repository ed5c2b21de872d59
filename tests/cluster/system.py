"""Two allocators on servers that may be clusters, and pods that ask them by the thousand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from allocator import schema
from allocator.database import open_engine
from broker import provisioning
from broker.rpc import RpcClient, rpc_client
from compose.asking import ask
from compose.services.process import Child
from compose.stack import start
from schemas.address import AddressAllocate, AddressRelease, Allocated
from schemas.network import NetworkCreate, NetworkView

NODE = "n1"
NETWORKS = ("huge-0", "huge-1", "huge-2", "huge-3")
WAIT_S = 90.0
_RELEASE = {"network", "node", "container_id", "ifname", "attachment_id"}
_CLIENTS = 12


@dataclass(frozen=True)
class System:
    """Where nodes and operators reach the broker, and where the database is."""

    node: str
    operator: str
    database_url: str
    allocators: tuple[Child, ...]


@contextmanager
def running_system(management_url: str, amqp: str, database_url: str, folder: Path) -> Iterator[System]:
    """Two allocators while the context lasts; the networks of `NETWORKS` exist."""
    folder.mkdir()
    engine = open_engine(database_url)
    try:
        schema.upgrade(engine)
    finally:
        engine.dispose()
    provisioning.provision(management_url)
    allocator = provisioning.enroll_allocator(management_url, amqp=amqp, rotate=True)
    operator = provisioning.enroll_client(management_url, "test", "operator", amqp=amqp, rotate=True)
    node = provisioning.enroll_node(management_url, NODE, amqp=amqp, rotate=True)
    with ExitStack() as undo:
        allocators = tuple(
            start(
                f"allocator {partitions}",
                ["allocator"],
                {
                    "MOORAGE_AMQP_URL": allocator.amqp_url,
                    "MOORAGE_DATABASE_URL": database_url,
                    "MOORAGE_ALLOCATOR_PARTITIONS": partitions,
                },
                folder / f"allocator-{partitions[0]}.log",
                undo,
            )
            for partitions in ("0,1", "2,3")
        )
        for number, network in enumerate(NETWORKS):
            body = {
                "request_id": uuid4().hex,
                "network": network,
                "subnets": [{"cidr": f"10.{100 + number}.0.0/18"}],
            }
            ask(operator.amqp_url, NetworkCreate.model_validate(body), NetworkView, timeout_s=WAIT_S)
        yield System(node.amqp_url, operator.amqp_url, database_url, allocators)


def pods(count: int) -> list[AddressAllocate]:
    """What so many new pods ask for, in all networks in turn."""
    return [
        AddressAllocate.model_validate(
            {
                "network": NETWORKS[number % len(NETWORKS)],
                "owner": f"bank/api-{uuid4().hex[:12]}",
                "node": NODE,
                "ifname": "eth0",
                "container_id": uuid4().hex,
                "attachment_id": uuid4(),
            }
        )
        for number in range(count)
    ]


def release_of(request: AddressAllocate) -> AddressRelease:
    """The release of what was asked for."""
    return AddressRelease.model_validate(request.model_dump(include=_RELEASE))


@asynccontextmanager
async def clients(url: str, count: int = _CLIENTS) -> AsyncIterator[list[RpcClient]]:
    """So many connections of a node."""
    async with AsyncExitStack() as undo:
        yield [await undo.enter_async_context(rpc_client(url, name="burst")) for _ in range(count)]


async def attach(
    asked: Sequence[RpcClient],
    requests: Iterable[AddressAllocate],
    answers: dict[UUID, str],
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Ask all at once and note each answer; `meanwhile` happens when a third of them is there."""
    wanted = list(requests)
    third, reached = len(answers) + len(wanted) // 3, asyncio.Event()

    async def one(client: RpcClient, request: AddressAllocate) -> None:
        answer = await client.ask(request, timeout_s=WAIT_S)
        assert isinstance(answer, Allocated)
        answers[answer.attachment_id] = str(answer.addresses[0].address)
        if len(answers) >= third:
            reached.set()

    async with asyncio.TaskGroup() as group:
        for number, request in enumerate(wanted):
            group.create_task(one(asked[number % len(asked)], request))
        if meanwhile is not None:
            await reached.wait()
            await asyncio.to_thread(meanwhile)
            assert len(answers) < third + len(wanted) // 2, "the burst was over before anything happened"


async def detach(asked: Sequence[RpcClient], requests: Iterable[AddressAllocate]) -> None:
    """Release all, and wait for every answer."""
    async with asyncio.TaskGroup() as group:
        for number, request in enumerate(requests):
            group.create_task(asked[number % len(asked)].ask(release_of(request), timeout_s=WAIT_S))
