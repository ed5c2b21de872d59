"""The Galera server that is written to is killed: what was answered is not lost, nor done twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from allocator import tables as t
from allocator.database import Database
from allocator.servers import state_of
from bench.clustered import System, running_system
from broker.login import Login, each_server
from compose.services.galera_cluster import GaleraCluster, galera_cluster
from compose.services.local import LocalServices
from compose.services.mariadb import MariaDB
from tests.cluster.system import attach, clients, detach, pods
from tests.database import patient_engine
from tests.integration.brokering import until
from tests.integration.checking import changes_of, check, held_by
from tests.integration.replicated import ask

pytestmark = [pytest.mark.cluster, pytest.mark.services, pytest.mark.timeout(300)]

PODS = 3000


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GaleraCluster]:
    with galera_cluster(tmp_path_factory.mktemp("d"), progress=print) as running:
        yield running


@pytest.fixture
def system(databases: GaleraCluster, services: LocalServices, tmp_path: Path) -> Iterator[System]:
    amqp = f"127.0.0.1:{services.rabbitmq.ports.amqp}"
    with running_system(services.management_url, amqp, databases.url, tmp_path / "a") as running:
        yield running


@pytest.fixture
def last(databases: GaleraCluster) -> Iterator[Engine]:
    """A look at the server that no test kills."""
    engine = patient_engine(databases.servers[-1].url())
    yield engine
    engine.dispose()


def members(server: MariaDB) -> int:
    """How many servers this one counts in its cluster."""
    return int(ask(server, "SHOW STATUS LIKE 'wsrep_cluster_size'")[0]["Value"])


def rows(server: MariaDB) -> list[tuple[object, ...]]:
    """All that says who has which address, once the server has applied what the others told it."""
    engine = patient_engine(server.url())
    columns = t.allocations.c.address, t.allocations.c.state, t.allocations.c.attachment_id
    statement = select(*columns).order_by(t.allocations.c.id)
    try:
        return Database(engine).run(lambda connection: [tuple(row) for row in connection.execute(statement)])
    finally:
        engine.dispose()


async def test_the_writer_is_killed_in_a_burst_and_comes_back(
    databases: GaleraCluster, system: System, last: Engine
):
    writer, answers, requests = databases.servers[0], dict[UUID, str](), pods(PODS)
    async with clients(system.node) as asked:
        await attach(asked, requests, answers, writer.kill)
        assert len(answers) == len(set(answers.values())) == PODS
        assert await asyncio.to_thread(held_by, last) == answers
        told = await asyncio.to_thread(changes_of, last, answers)
        assert told == {key: [("address.attached", address)] for key, address in answers.items()}
        states = [state_of(Login(url), timeout_s=5) for url in each_server(databases.url)]
        assert [good for _, good in states] == [False, True, True]
        assert states[1][0] == "Galera: Synced, in a cluster of 2"
        await asyncio.to_thread(databases.come_back, writer)
        more = pods(PODS // 3)
        await attach(asked, more, answers)
        assert await asyncio.to_thread(held_by, last) == answers
        await detach(asked, [*requests, *more])
    assert await asyncio.to_thread(held_by, last) == {}
    await asyncio.to_thread(check, last)
    await until(lambda: asyncio.to_thread(lambda: members(writer) == len(databases.servers)))
    seen = [await asyncio.to_thread(rows, server) for server in databases.servers]
    assert seen[0] == seen[1] == seen[2] and len(seen[0]) == len(answers)
