"""How long pods wait when a cluster of RabbitMQ, or of Galera, loses the member that leads it.

Some pods are attached and go all the time, one after the other in each of several networks; the member that
leads all queues, or that is written to, is killed. The figure is the longest that anybody waited.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from bench.clustered import NETWORKS, running_system
from bench.machine import Machine, Size, on_uvloop
from bench.pods import pods
from bench.results import Figure
from broker.management import Management
from broker.rpc import RpcClient, rpc_client
from compose.services.galera_cluster import galera_cluster
from compose.services.rabbitmq import RabbitMQ
from compose.services.rabbitmq_cluster import SIZE, RabbitMQCluster, rabbitmq_cluster
from schemas.address import AddressRelease

FIGURES = (
    Figure("rabbit_failover_s", "the longest wait when the node that leads all queues is killed", at_most=30),
    Figure("galera_failover_s", "the longest wait when the server that is written to is killed", at_most=30),
)
_ROUNDS = 3
_CLIENTS = 8
_BEFORE_S, _AFTER_S = 2.0, 3.0
_WAIT_S = 120.0
_FREED = {"network", "node", "container_id", "ifname", "attachment_id"}

Round = tuple[Callable[[], None], Callable[[], None]]
"""Kills a member, and brings it back."""


def run(machine: Machine) -> dict[str, float]:
    """Each cluster loses a member several times; the longest wait of all. Raises what asking raises."""
    rounds = 1 if machine.size is Size.QUICK else _ROUNDS
    with tempfile.TemporaryDirectory(prefix="moorage-bench.", dir="/var/tmp") as folder:
        return {
            "rabbit_failover_s": _rabbit(machine, Path(folder), rounds),
            "galera_failover_s": _galera(machine, Path(folder), rounds),
        }


def _rabbit(machine: Machine, folder: Path, rounds: int) -> float:
    home = folder / "rabbitmq"
    home.mkdir()
    with rabbitmq_cluster(home, progress=machine.tell) as cluster:
        database = machine.database("failover")
        with running_system(
            cluster.management_url, cluster.addresses, database, folder / "with-rabbitmq"
        ) as system:
            victims: list[RabbitMQ] = []

            def kill() -> None:
                victims.append(cluster.leading())
                victims[-1].kill()

            def restart() -> None:
                victims[-1].start()
                _wait_for_members(cluster)

            return _longest(machine, system.operator, rounds, (kill, restart))


def _galera(machine: Machine, folder: Path, rounds: int) -> float:
    home = folder / "galera"
    home.mkdir()
    services = machine.services
    amqp = f"127.0.0.1:{services.rabbitmq.ports.amqp}"
    with (
        galera_cluster(home, progress=machine.tell) as cluster,
        running_system(services.management_url, amqp, cluster.url, folder / "with-galera") as system,
    ):
        writer = cluster.servers[0]
        return _longest(machine, system.operator, rounds, (writer.kill, lambda: cluster.come_back(writer)))


def _longest(machine: Machine, url: str, rounds: int, happening: Round) -> float:
    kill, bring_back = happening
    waits = []
    for _ in range(rounds):
        waits.append(on_uvloop(_wait_in(url, kill)))
        machine.tell(f"the longest wait was {waits[-1]:.2f} s")
        bring_back()
    return max(waits)


async def _wait_in(url: str, kill: Callable[[], None]) -> float:
    """The longest that anybody waited, from a moment before to one after it."""
    waits: list[float] = []
    over = asyncio.Event()
    async with AsyncExitStack() as undo:
        asked = [await undo.enter_async_context(rpc_client(url, name="bench")) for _ in range(_CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(asked):
                network = NETWORKS[number % len(NETWORKS)]
                group.create_task(_come_and_go(client, network, waits, over))
            await asyncio.sleep(_BEFORE_S)
            await asyncio.to_thread(kill)
            for client, number in zip(asked, range(_CLIENTS), strict=True):  # until each was answered again
                await _once(client, NETWORKS[number % len(NETWORKS)], waits)
            await asyncio.sleep(_AFTER_S)
            over.set()
    return max(waits)


async def _come_and_go(client: RpcClient, network: str, waits: list[float], over: asyncio.Event) -> None:
    while not over.is_set():
        await _once(client, network, waits)


async def _once(client: RpcClient, network: str, waits: list[float]) -> None:
    """One pod comes and goes."""
    request = next(pods(network))
    release = AddressRelease.model_validate(request.model_dump(include=_FREED))
    for asking in (request, release):
        began = time.perf_counter()
        await client.ask(asking, timeout_s=_WAIT_S)
        waits.append(time.perf_counter() - began)


def _wait_for_members(cluster: RabbitMQCluster) -> None:
    """Until every queue has all its members again. Raises TimeoutError."""
    until = time.monotonic() + _WAIT_S
    while True:
        with Management(cluster.management_url) as api:
            queues = [q for q in api.get("queues") if q["name"].startswith("moorage.allocator.")]
        if all(len(q.get("online", ())) == SIZE for q in queues):
            return
        if time.monotonic() > until:
            raise TimeoutError(f"queues lack members after {_WAIT_S:g} s: {queues}")
        time.sleep(0.5)
