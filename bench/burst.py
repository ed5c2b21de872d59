"""Ten thousand pods at once into a pool that has exactly as many addresses, and queries meanwhile."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
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
IDLE_S = 4.0
TURNS = 9
_FIRST = IPv4Address("10.1.0.0")
FIGURES = (
    Figure("burst_10k_s", "seconds for 10,000 pods from 50 clients into 10,000 addresses", at_most=60),
    Figure("query_p99_ratio_under_burst", "p99 of address.show in the burst over idle", at_most=10),
    Figure("query_p99_idle_ms", "address.show with nothing else going on, 99th percentile"),
    Figure("query_p99_burst_ms", "address.show in the burst, 99th percentile"),
)


@dataclass(frozen=True)
class _Turn:
    """One burst, and the queries before and during it, all in seconds."""

    took: float
    quiet_p99: float
    busy_p99: float


def run(machine: Machine) -> dict[str, float]:
    """Bursts, each into a pool of its own; medians.

    Raises AssertionError where an address was given twice or not at all.
    """
    quick = machine.size is Size.QUICK
    count, turns = (1_000, 1) if quick else (10_000, TURNS)
    place = machine.place("burst")
    with machine.allocator(place, machine.database("burst")):
        shown = on_uvloop(_prepare(place, count, turns))
        with probing(place.operator, AddressShow(network=NETWORK, address=shown)) as probe:
            taken = on_uvloop(_measure(machine, place, probe, count, turns))
    return {
        "burst_10k_s": statistics.median(turn.took for turn in taken),
        "query_p99_ratio_under_burst": statistics.median(turn.busy_p99 / turn.quiet_p99 for turn in taken),
        "query_p99_idle_ms": statistics.median(turn.quiet_p99 for turn in taken) * 1e3,
        "query_p99_burst_ms": statistics.median(turn.busy_p99 for turn in taken) * 1e3,
    }


async def _prepare(place: Place, count: int, turns: int) -> IPAddress:
    """Make network and pools; an address, outside the pools, that can be asked for."""
    async with rpc_client(place.operator, name="bench") as asked:
        await asked.ask(new_network(NETWORK), timeout_s=30)
        for turn in range(turns):
            span = f"{_first(turn, count)}-{_first(turn + 1, count) - 1}"
            await asked.ask(new_pool(NETWORK, _pool(turn), span), timeout_s=30)
        answer = await asked.ask(next(pods(NETWORK, "default")), timeout_s=30)
    assert isinstance(answer, Allocated)
    return answer.addresses[0].address


def _pool(turn: int) -> str:
    return f"burst-{turn + 1}"


def _first(turn: int, count: int) -> IPv4Address:
    return _FIRST + turn * count


async def _measure(machine: Machine, place: Place, probe: Probe, count: int, turns: int) -> list[_Turn]:
    times: list[tuple[float, float, float]] = []
    async with AsyncExitStack() as undo:
        clients = [
            await undo.enter_async_context(rpc_client(place.operator, name="bench")) for _ in range(CLIENTS)
        ]
        for asked in clients:
            await asked.ask(NetworkList(limit=1), timeout_s=30)  # all connections are open from here on
        await asyncio.to_thread(probe.wait_until_ready)
        machine.tell(f"{count:,} pods at once from {CLIENTS} clients, after {IDLE_S:g} s of queries alone")
        for turn in range(turns):
            idle = time.monotonic()
            await asyncio.sleep(IDLE_S)
            began = time.monotonic()
            addresses = await _burst(clients, _pool(turn), count)
            times.append((idle, began, time.monotonic()))
            await _check(clients[0], turn, addresses, count)
        samples = await asyncio.to_thread(probe.stop)

    def p99(since: float, until: float) -> float:
        return percentile([took for due, took in samples if since <= due < until], 99)

    return [_Turn(ended - began, p99(idle, began), p99(began, ended)) for idle, began, ended in times]


async def _burst(clients: Sequence[RpcClient], pool: str, count: int) -> list[IPAddress]:
    """All requests are sent at once; nothing is asked twice."""
    requests = list(islice(pods(NETWORK, pool), count))
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(clients[number % len(clients)].ask(request, timeout_s=WAIT_S))
            for number, request in enumerate(requests)
        ]
    answers = [task.result() for task in asked]
    return [one.address for answer in answers if isinstance(answer, Allocated) for one in answer.addresses]


async def _check(asked: RpcClient, turn: int, addresses: list[IPAddress], count: int) -> None:
    wanted = {_first(turn, count) + offset for offset in range(count)}
    assert len(addresses) == count, f"{len(addresses)} addresses for {count} pods"
    assert set(addresses) == wanted, "an address was given twice, or one that is not of the pool"
    try:
        await asked.ask(next(pods(NETWORK, _pool(turn))), timeout_s=30)
    except ServiceError as error:
        assert error.code == Code.EXHAUSTED, error
    else:
        raise AssertionError("the pool had an address left")
