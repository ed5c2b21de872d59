"""The memory of a real allocator process over a long run on a network with a million allocations."""

import asyncio
import statistics
from itertools import islice

from bench.filled import FRESH, NETWORK, fill
from bench.machine import Machine, Place, Size, memory_mb, on_uvloop, pid_of
from bench.pods import WAIT_S, new_network, new_pool, pods
from bench.results import Figure
from bench.rounds import IN_FLIGHT
from broker.rpc import RpcClient, rpc_client

SAMPLE_S = 0.5
_WARM_UP = 1_000
FIGURES = (
    Figure("allocator_rss_mb", "peak memory of the allocator process, MB", at_most=150),
    Figure("allocator_rss_growth_mb", "the last quarter of the run over the first, MB", at_most=10),
    Figure("allocator_rss_requests", "allocations that went through the process meanwhile"),
)
_REQUESTS = {Size.QUICK: 2_000, Size.NORMAL: 100_000, Size.FULL: 1_000_000}


def run(machine: Machine) -> dict[str, float]:
    """100,000 allocations on top of a million rows; a full run makes the whole million through the broker."""
    place, count = machine.place("memory"), _REQUESTS[machine.size]
    if machine.size is Size.FULL:
        database = machine.database("memory")
    else:
        database = machine.filled(20_000 if machine.size is Size.QUICK else 1_000_000, fill)
    with machine.allocator(place, database) as allocator:
        machine.tell(f"{count:,} allocations through one allocator process")
        pid = pid_of(allocator)
        samples = on_uvloop(_measure(place, pid, count, make=machine.size is Size.FULL))
        peak = memory_mb(pid, "VmHWM")
    quarter = max(1, len(samples) // 4)
    return {
        "allocator_rss_mb": peak,
        "allocator_rss_growth_mb": statistics.mean(samples[-quarter:]) - statistics.mean(samples[:quarter]),
        "allocator_rss_requests": count,
    }


async def _measure(place: Place, pid: int, count: int, *, make: bool) -> list[float]:
    samples: list[float] = []
    async with rpc_client(place.operator, name="bench") as asked:
        if make:
            await asked.ask(new_network(NETWORK), timeout_s=30)
            await asked.ask(new_pool(NETWORK, FRESH, "10.64.0.0-10.127.255.255"), timeout_s=30)
        await _allocate(asked, _WARM_UP)  # what is loaded and cached at first is no growth
        watching = asyncio.create_task(_watch(pid, samples))
        await _allocate(asked, count)
        watching.cancel()
    return samples


async def _allocate(asked: RpcClient, count: int) -> None:
    requests = islice(pods(NETWORK, FRESH), count)

    async def one_by_one() -> None:
        for request in requests:
            await asked.ask(request, timeout_s=WAIT_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(one_by_one())


async def _watch(pid: int, samples: list[float]) -> None:
    while True:
        samples.append(memory_mb(pid, "VmRSS"))
        await asyncio.sleep(SAMPLE_S)
