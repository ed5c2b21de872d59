"""Whether an allocation costs the same in a network with a million allocations as in one with a thousand."""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

from allocator.database import Database, open_engine
from allocator.service import Allocator
from bench.filled import FRESH, NETWORK, WORN, fill
from bench.machine import Machine, Size
from bench.pods import pods
from bench.results import Figure
from broker.outcome import Delivery, Reply
from schemas.address import AddressAllocate, AddressRelease

BATCH = 64
FIGURES = (
    Figure("flat_1m_vs_1k", "time of an allocation among 1,000,000 rows over 1,000; the worse", at_most=1.2),
    Figure("flat_fresh_1m_vs_1k", "the same, addresses that were never used"),
    Figure("flat_free_1m_vs_1k", "the same, addresses that became free"),
    Figure("allocate_fresh_us", "an allocation among 1,000,000 rows in a batch of 64, never used"),
    Figure("allocate_free_us", "the same, one that became free"),
)


def run(machine: Machine) -> dict[str, float]:
    """Batches in turn on both databases of one server, asked directly without a broker."""
    quick = machine.size is Size.QUICK
    many, few = 20_000 if quick else 1_000_000, 1_000
    networks = {"many": _Network(machine.filled(many, fill)), "few": _Network(machine.filled(few, fill))}
    machine.tell(f"batches of {BATCH} in turn, among {many:,} rows and among {few:,}")
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        for number in range(6 if quick else 63):
            for pool in (FRESH, WORN):
                for name, network in networks.items():
                    seconds = network.allocate(pool)
                    if number > 2:  # the first ones warm up
                        taken[name, pool].append(seconds)
    finally:
        for network in networks.values():
            network.close()
    median = {key: statistics.median(values) for key, values in taken.items()}
    fresh = median["many", FRESH] / median["few", FRESH]
    free = median["many", WORN] / median["few", WORN]
    return {
        "flat_1m_vs_1k": max(fresh, free),
        "flat_fresh_1m_vs_1k": fresh,
        "flat_free_1m_vs_1k": free,
        "allocate_fresh_us": median["many", FRESH] / BATCH * 1e6,
        "allocate_free_us": median["many", WORN] / BATCH * 1e6,
    }


class _Network:
    """The filled network in one database, and an allocator in this process."""

    def __init__(self, url: str) -> None:
        self._database = Database(open_engine(url))
        self._allocator = Allocator(self._database, lambda notices, touched=(), answered=False: None)

    def close(self) -> None:
        """Close the connections."""
        self._database.dispose()

    def allocate(self, pool: str) -> float:
        """How long one batch takes, in seconds. What was free becomes so again, for in the small few are."""
        requests = list(islice(pods(NETWORK, pool), BATCH))
        batch = [_delivery(request) for request in requests]
        started = time.perf_counter()
        outcomes = self._allocator.apply(batch)
        taken = time.perf_counter() - started
        assert all(isinstance(outcome, Reply) for outcome in outcomes), outcomes
        if pool == WORN:
            self._release(requests)
        return taken

    def _release(self, requests: Sequence[AddressAllocate]) -> None:
        given = {"network", "node", "container_id", "ifname", "attachment_id"}
        released = [AddressRelease.model_validate(one.model_dump(include=given)) for one in requests]
        self._allocator.apply([_delivery(request) for request in released])


def _delivery(request: AddressAllocate | AddressRelease) -> Delivery:
    return Delivery(request, "operator.bench", "reply", "correlation", "message")
