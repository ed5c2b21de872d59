"""Ten thousand pods at once into a pool that has exactly as many addresses, and queries meanwhile."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from itertools import islice

from bench.machine import Machine, Place, Size, on_uvloop
from bench.pods import WAIT_S, new_network, new_pool, percentile, pods
from bench.probe import Probe, probing
from bench.results import Figure
from broker.rpc import RpcClient, rpc_client
from schemas.address import AddressShow, Allocated
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.network import NetworkList

NETWORK = "bench"
CLIENTS = 50
IDLE_S = 10.0
_FIRST = IPv4Address("10.1.0.0")
FIGURES = (
    Figure("burst_10k_s", "seconds for 10,000 pods from 50 clients into 10,000 addresses", at_most=60),
    Figure("query_p99_ratio_under_burst", "p99 of address.show in the burst over idle", at_most=10),
    Figure("query_p99_idle_ms", "address.show with nothing else going on, 99th percentile"),
    Figure("query_p99_burst_ms", "address.show in the burst, 99th percentile"),
)


def run(machine: Machine) -> dict[str, float]:
    """One burst into one pool. Raises AssertionError where an address was given twice or not at all."""
    place = machine.place("burst")
    with machine.allocator(place, machine.database("burst")):
        shown = on_uvloop(_prepare(place, 1_000 if machine.size is Size.QUICK else 10_000))
        with probing(place.operator, AddressShow(network=NETWORK, address=shown)) as probe:
            return on_uvloop(_measure(machine, place, probe))


async def _prepare(place: Place, count: int) -> IPAddress:
    """Make network and pool; an address, outside the pool, that can be asked for."""
    span = f"{_FIRST}-{_FIRST + count - 1}"
    async with rpc_client(place.operator, name="bench") as asked:
        await asked.ask(new_network(NETWORK), timeout_s=30)
        await asked.ask(new_pool(NETWORK, "burst", span), timeout_s=30)
        answer = await asked.ask(next(pods(NETWORK, "default")), timeout_s=30)
    assert isinstance(answer, Allocated)
    return answer.addresses[0].address


async def _measure(machine: Machine, place: Place, probe: Probe) -> dict[str, float]:
    quick = machine.size is Size.QUICK
    count = 1_000 if quick else 10_000
    async with AsyncExitStack() as undo:
        clients = [
            await undo.enter_async_context(rpc_client(place.operator, name="bench")) for _ in range(CLIENTS)
        ]
        for asked in clients:
            await asked.ask(NetworkList(limit=1), timeout_s=30)  # all connections are open from here on
        await asyncio.to_thread(probe.wait_until_ready)
        machine.tell(f"queries with nothing else going on, for {IDLE_S:g} s")
        idle = time.monotonic()
        await asyncio.sleep(IDLE_S)
        machine.tell(f"{count:,} pods at once from {CLIENTS} clients")
        began = time.monotonic()
        addresses = await _burst(clients, count)
        ended = time.monotonic()
        samples = await asyncio.to_thread(probe.stop)
        await _check(clients[0], addresses, count)
    quiet = [took for due, took in samples if idle <= due < began]
    busy = [took for due, took in samples if began <= due < ended]
    return {
        "burst_10k_s": ended - began,
        "query_p99_ratio_under_burst": percentile(busy, 99) / percentile(quiet, 99),
        "query_p99_idle_ms": percentile(quiet, 99) * 1e3,
        "query_p99_burst_ms": percentile(busy, 99) * 1e3,
    }


async def _burst(clients: Sequence[RpcClient], count: int) -> list[IPAddress]:
    """All requests are sent at once; nothing is asked twice."""
    requests = list(islice(pods(NETWORK, "burst"), count))
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(clients[number % len(clients)].ask(request, timeout_s=WAIT_S))
            for number, request in enumerate(requests)
        ]
    answers = [task.result() for task in asked]
    return [one.address for answer in answers if isinstance(answer, Allocated) for one in answer.addresses]


async def _check(asked: RpcClient, addresses: list[IPAddress], count: int) -> None:
    wanted = {_FIRST + offset for offset in range(count)}
    assert len(addresses) == count, f"{len(addresses)} addresses for {count} pods"
    assert set(addresses) == wanted, "an address was given twice, or one that is not of the pool"
    try:
        await asked.ask(next(pods(NETWORK, "burst")), timeout_s=30)
    except ServiceError as error:
        assert error.code == Code.EXHAUSTED, error
    else:
        raise AssertionError("the pool had an address left")
