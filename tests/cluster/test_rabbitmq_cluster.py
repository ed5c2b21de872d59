"""The RabbitMQ node that leads all queues is killed: what was asked is not lost, nor done twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from bench.clustered import System, running_system
from broker import topology
from broker.audit import lacking_members
from broker.login import each_server
from compose.services.local import LocalServices
from compose.services.rabbitmq_cluster import RabbitMQCluster, rabbitmq_cluster
from tests.cluster.system import attach, clients, detach, pods, release_of
from tests.integration.brokering import hand, until
from tests.integration.checking import changes_of, check, held_by

pytestmark = [pytest.mark.cluster, pytest.mark.services, pytest.mark.timeout(300)]

PODS = 3000


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQCluster]:
    with rabbitmq_cluster(tmp_path_factory.mktemp("b"), progress=print) as running:
        yield running


@pytest.fixture
def system(
    brokers: RabbitMQCluster, services: LocalServices, engine: Engine, tmp_path: Path
) -> Iterator[System]:
    """Engine is a dependency for the empty database that it leaves."""
    with running_system(
        brokers.management_url, brokers.addresses, services.database_url, tmp_path / "a"
    ) as running:
        yield running


async def test_the_leader_of_all_queues_is_killed_in_a_burst(
    brokers: RabbitMQCluster, system: System, engine: Engine
):
    leader, answers, requests = brokers.leading(), dict[UUID, str](), pods(PODS)
    async with clients(system.node) as asked:
        await attach(asked, requests, answers, leader.kill)
        assert len(answers) == len(set(answers.values())) == PODS
        assert await asyncio.to_thread(held_by, engine) == answers
        told = await asyncio.to_thread(changes_of, engine, answers)
        assert told == {key: [("address.attached", address)] for key, address in answers.items()}
        told = await asyncio.to_thread(lacking_members, brokers.management_url, "/")
        assert len(told) == len(topology.shared_queues()) and "2 of 3 members" in told[0]
        await asyncio.to_thread(leader.start)  # a majority is left without it; the next test kills another
        await detach(asked, requests)
    assert await asyncio.to_thread(held_by, engine) == {}
    await asyncio.to_thread(check, engine)


async def test_what_rabbitmq_has_confirmed_outlives_the_leader(
    brokers: RabbitMQCluster, system: System, engine: Engine
):
    """Nobody waits for these answers, so nobody asks again: what was confirmed must be done."""
    leader, answers, requests = brokers.leading(), dict[UUID, str](), pods(600)
    async with clients(system.node) as asked:
        await attach(asked, requests, answers)
    survivor = next(
        url for url, node in zip(each_server(system.node), brokers.nodes, strict=True) if node is not leader
    )
    accepted: set[UUID] = set()
    tried = asyncio.Event()

    async with hand(survivor) as sender:

        async def give_up(number: int) -> None:
            release = release_of(requests[number])
            if number == len(requests) // 3:
                tried.set()
            try:
                await sender.publish(release)
            except Exception:  # whatever it is, it was not confirmed: it may be done, or not
                return
            accepted.add(requests[number].attachment_id)

        async def kill() -> None:
            await tried.wait()
            await asyncio.to_thread(leader.kill)

        killing = asyncio.create_task(kill())
        for start in range(0, len(requests), 20):
            await asyncio.gather(*(give_up(number) for number in range(start, start + 20)))
        await killing
    assert accepted

    def freed() -> bool:
        return not accepted & set(held_by(engine))

    await until(lambda: asyncio.to_thread(freed), limit_s=60)
    await asyncio.to_thread(leader.start)
    await asyncio.to_thread(check, engine)
