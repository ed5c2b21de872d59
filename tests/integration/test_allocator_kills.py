"""An allocator is killed at every point of a batch, another takes over: each request is answered rightly."""

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from broker import topology
from compose.allocator_process import run_allocator
from compose.services.local import LocalServices
from compose.settings import Settings
from schemas.address import AddressAllocate, AddressRelease, Allocated, Released
from schemas.message import Answer, Request
from tests.integration.allocating import Asked, only
from tests.integration.brokering import (
    LIMIT_S,
    PARTITION_QUEUE,
    Broker,
    Hand,
    asking,
    hand,
    ready,
    until,
)
from tests.integration.checking import changes_of, check, held_by
from tests.integration.killed_allocator import HERE, POINTS

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """What goes before, and a look at it afterwards: network prod with a pinned pool for shop/*."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("shop", "10.1.0.64-10.1.0.127", owners=["shop/*"])
    return made


@asynccontextmanager
async def doomed(
    broker: Broker, services: LocalServices, point: str, count: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An allocator that stops at `point` of a batch of `count` requests."""
    settings = {"MOORAGE_AMQP_URL": broker.allocator, "MOORAGE_DATABASE_URL": services.database_url}
    command = [sys.executable, "-m", "tests.integration.killed_allocator", point, str(count)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def successor(broker: Broker, services: LocalServices) -> AsyncIterator[None]:
    """Another allocator, in this process."""
    settings = Settings(amqp_url=broker.allocator, database_url=services.database_url)
    task = asyncio.create_task(run_allocator(settings))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT_S)


async def stopped(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
    assert said.decode().strip() == HERE


class Clients:
    """Those who ask: every answer that comes is kept, also the second to one question."""

    def __init__(self, sender: Hand) -> None:
        self._sender = sender
        self.asked: dict[str, Request] = {}
        self.answers: dict[str, list[Answer]] = defaultdict(list)

    async def ask(self, request: Request) -> None:
        correlation_id = uuid4().hex
        self.asked[correlation_id] = request
        await self._sender.publish(request, answer_to=topology.REPLY_QUEUE, correlation_id=correlation_id)

    def take(self) -> int:
        """How many questions have an answer by now."""
        while not self._sender.answers.empty():
            message = self._sender.answers.get_nowait()
            self.answers[message.correlation_id or ""].append(Answer.model_validate_json(message.body))
        return len(self.answers)

    def complete(self) -> bool:
        """Whether nobody waits any more."""
        return self.take() == len(self.asked)

    def addresses(self) -> dict[UUID, str]:
        """The one address that all answers for an attachment agree on."""
        found: dict[UUID, set[str]] = defaultdict(set)
        for key, request in self.asked.items():
            for answer in self.answers[key]:
                assert answer.error is None, answer
                if isinstance(request, AddressAllocate):
                    found[request.attachment_id].add(only(Allocated.model_validate(answer.result)))
        assert all(len(addresses) == 1 for addresses in found.values()), found
        return {attachment_id: addresses.pop() for attachment_id, addresses in found.items()}

    def freed(self) -> set[str]:
        """What the answers to releases name."""
        return {
            str(address)
            for key, request in self.asked.items()
            for answer in self.answers[key]
            if isinstance(request, AddressRelease)
            for address in Released.model_validate(answer.result).addresses
        }


def release_of(request: AddressAllocate) -> AddressRelease:
    fields = {"network", "node", "container_id", "ifname", "attachment_id"}
    return AddressRelease.model_validate(request.model_dump(include=fields))


@pytest.mark.parametrize("point", POINTS)
async def test_what_a_killed_allocator_left_is_done_once_by_the_next(
    asked: Asked, engine: Engine, broker: Broker, services: LocalServices, point: str
):
    old, again = asked.ask("bank/old-0"), asked.ask("bank/again-0")
    before = {request.attachment_id: only(asked.reply(request)) for request in (old, again)}
    fresh = [asked.ask(f"{team}/api-{i}") for team in ("bank", "shop") for i in range(3)]

    async with hand(broker.node) as sender:
        clients = Clients(sender)
        for request in (*fresh, release_of(old), again, *fresh[:2]):
            await clients.ask(request)
        async with doomed(broker, services, point, len(clients.asked)) as victim:
            await stopped(victim)
            expected = {"between replies": 1, "before the ack": len(clients.asked)}.get(point, 0)
            await until(lambda: clients.take() == expected)
            victim.kill()
        async with successor(broker, services):
            await until(clients.complete)
            async with asking(broker.node) as client:
                repeated = {r.attachment_id: only(await client.ask(r)) for r in fresh}  # type: ignore[arg-type]
            await until(lambda: settled(broker))
        clients.take()

    if point == "before the ack":
        assert {len(answers) for answers in clients.answers.values()} == {2}  # both allocators answered
    given = clients.addresses()
    assert given == {**repeated, again.attachment_id: before[again.attachment_id]}
    assert held_by(engine) == given
    assert clients.freed() <= {before[old.attachment_id]}
    freed = before[old.attachment_id]
    changes = {key: [("address.attached", address)] for key, address in given.items()}
    changes[old.attachment_id] = [("address.attached", freed), ("address.freed", freed)]
    assert changes_of(engine, changes) == changes
    check(engine)
    assert await ready(broker, topology.DEAD) == 0


async def settled(broker: Broker) -> bool:
    return await ready(broker, PARTITION_QUEUE) == 0
