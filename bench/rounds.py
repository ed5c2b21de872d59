"""Turns that alternate between two things to be compared, so that what else the machine does hits both."""

import asyncio
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.machine import cpu_s
from bench.pods import per_second
from broker.rpc import RpcClient
from schemas.address import AddressAllocate

IN_FLIGHT = 64


@dataclass(frozen=True)
class Contender:
    """One of the things compared: whom to ask what, and whose processor time to count."""

    client: RpcClient
    requests: Iterator[AddressAllocate]
    processes: Mapping[str, Sequence[int]]


@dataclass
class Turns:
    """What the turns of one contender came to."""

    rates: list[float] = field(default_factory=list)
    cpu_us: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def rate(self) -> float:
        """The median of the answers per second."""
        return statistics.median(self.rates)

    def cpu(self, process: str) -> float:
        """The median of the processor time that `process` used for each answer, in microseconds."""
        return statistics.median(self.cpu_us[process])


async def alternate(contenders: Mapping[str, Contender], *, rounds: int, seconds: float) -> dict[str, Turns]:
    """`rounds` turns for each contender, after one to warm up that does not count."""
    turns = {name: Turns() for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            rate, used = await _turn(contender, seconds)
            await asyncio.sleep(0.2)
            if number:
                turns[name].rates.append(rate)
                for process, microseconds in used.items():
                    turns[name].cpu_us[process].append(microseconds)
    return turns


async def _turn(contender: Contender, seconds: float) -> tuple[float, dict[str, float]]:
    watched = {**contender.processes, "client": [os.getpid()]}
    before = {name: cpu_s(*pids) for name, pids in watched.items()}
    rate, answered = await per_second(
        contender.client, contender.requests, in_flight=IN_FLIGHT, seconds=seconds
    )
    return rate, {name: (cpu_s(*pids) - before[name]) / answered * 1e6 for name, pids in watched.items()}
