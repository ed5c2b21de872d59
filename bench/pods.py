"""Pods that nobody has seen before, and how they ask: one after the other or many at once."""

import asyncio
import math
import time
from collections.abc import Iterator
from itertools import count
from uuid import uuid4

from broker.rpc import RpcClient
from schemas.address import AddressAllocate
from schemas.network import NetworkCreate
from schemas.pool import PoolCreate

WAIT_S = 300.0
"""How long an answer may take: what is measured is how long it does."""
_NODES = 100

_numbers = count(1)


def pods(network: str, pool: str | None = None) -> Iterator[AddressAllocate]:
    """An endless row of allocates, each for an owner, container and attachment of its own."""
    for number in _numbers:
        yield AddressAllocate(
            network=network,
            pool=pool,
            owner=f"bench/pod-{number}",
            node=f"bench-{number % _NODES}",
            container_id=uuid4().hex,
            ifname="eth0",
            attachment_id=uuid4(),
        )


def new_network(network: str, cidr: str = "10.0.0.0/8") -> NetworkCreate:
    """A network that becomes active at once where no node is known."""
    body = {"request_id": uuid4().hex, "network": network, "subnets": [{"cidr": cidr}]}
    return NetworkCreate.model_validate(body)


def new_pool(network: str, pool: str, span: str, policy: str = "shared", cooldown_s: int = 0) -> PoolCreate:
    """A pool of one range that everybody may use."""
    body = {"request_id": uuid4().hex, "network": network, "pool": pool, "policy": policy}
    return PoolCreate.model_validate(body | {"ranges": [span], "cooldown_s": cooldown_s})


async def per_second(
    asked: RpcClient, requests: Iterator[AddressAllocate], *, in_flight: int, seconds: float
) -> tuple[float, int]:
    """How many allocates are answered a second while `in_flight` wait at any time; and how many were."""
    started = time.perf_counter()
    until = started + seconds
    answered = 0

    async def one_by_one() -> None:
        nonlocal answered
        while time.perf_counter() < until:
            await asked.ask(next(requests), timeout_s=WAIT_S)
            answered += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_by_one())
    return answered / (time.perf_counter() - started), answered


async def alone(asked: RpcClient, requests: Iterator[AddressAllocate], samples: int) -> list[float]:
    """How long one allocate takes with nothing else going on, in seconds, so many times."""
    taken = []
    for _ in range(samples):
        request = next(requests)
        started = time.perf_counter()
        await asked.ask(request, timeout_s=WAIT_S)
        taken.append(time.perf_counter() - started)
    return taken


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of `values` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
