"""Ten thousand pods at once, and the allocator is killed in the middle."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest

from broker.rpc import RpcClient, rpc_client
from schemas.address import AddressAllocate, AddressRelease, Allocated
from tests.chaos.stage import Stage
from tests.integration.brokering import until
from tests.integration.checking import held_by

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

PODS, CLIENTS = 10_000, 25
WAIT_S = 150.0
RELEASE = {"network", "node", "container_id", "ifname", "attachment_id"}


def pods() -> Iterator[AddressAllocate]:
    for number in range(PODS):
        body = {"network": "huge", "owner": f"bank/api-{number}", "node": "n1", "ifname": "eth0"}
        yield AddressAllocate.model_validate(body | {"container_id": uuid4().hex, "attachment_id": uuid4()})


async def test_a_burst_of_ten_thousand_pods_with_the_allocator_killed_in_the_middle(stage: Stage):
    """As many addresses as there are pods, each given once; all that is asked is answered."""
    await asyncio.to_thread(stage.network, "huge", "10.100.0.0/18")
    answers: dict[UUID, str] = {}

    async def ask(client: RpcClient, request: AddressAllocate) -> None:
        answer = await client.ask(request, timeout_s=WAIT_S)
        assert isinstance(answer, Allocated)
        answers[answer.attachment_id] = str(answer.addresses[0].address)

    requests = list(pods())
    async with AsyncExitStack() as undo:
        clients = [
            await undo.enter_async_context(rpc_client(stage.broker.node, name="burst"))
            for _ in range(CLIENTS)
        ]
        async with asyncio.TaskGroup() as group:
            for number, request in enumerate(requests):
                group.create_task(ask(clients[number % CLIENTS], request))
            await until(lambda: len(answers) > PODS // 3)
            await asyncio.to_thread(stage.allocator.kill)
            assert len(answers) < PODS
            stage.allocator.start()
        assert len(answers) == len(set(answers.values())) == PODS
        assert await asyncio.to_thread(held_by, stage.engine) == answers
        async with asyncio.TaskGroup() as group:
            for number, request in enumerate(requests):
                release = AddressRelease.model_validate(request.model_dump(include=RELEASE))
                group.create_task(clients[number % CLIENTS].ask(release, timeout_s=WAIT_S))
    assert await asyncio.to_thread(held_by, stage.engine) == {}
