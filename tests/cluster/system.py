"""Pods that ask by the thousand, while something happens to the servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID, uuid4

from bench.clustered import NETWORKS, NODE
from broker.rpc import RpcClient, rpc_client
from schemas.address import AddressAllocate, AddressRelease, Allocated

WAIT_S = 90.0
_RELEASE = {"network", "node", "container_id", "ifname", "attachment_id"}
_CLIENTS = 12


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
