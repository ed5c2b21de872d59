"""What the broker's side counts: requests that were served, batches, queues, and what was asked of others."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.outcome import Broken, Deferred, Dropped, Failed, Refused, Reply, Verdict
from broker.topology import request_name
from schemas.errors import Code
from schemas.requests import REQUESTS

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""The limits of histograms of how long a request, or a call, took."""

UNKNOWN = "unknown"
"""The label of every request that there is none of: senders choose what they write there."""

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_OUTCOMES: dict[type[Verdict], str] = {
    Reply: "applied",
    Refused: "refused",
    Deferred: "deferred",
    Dropped: "dropped",
    Broken: "broken",
    Failed: "failed",
}
_CODES = frozenset(Code)


@lru_cache(maxsize=1024)
def known_request(routing_key: str) -> str:
    """The request that a routing key names, as a label."""
    name = request_name(routing_key)
    return name if name is not None and name in REQUESTS else UNKNOWN


def outcome_of(verdict: Verdict) -> str:
    """What became of a request, as a label."""
    return _OUTCOMES[type(verdict)]


class Watched:
    """One consumer of one queue, as others see it."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.hindrance: str | None = "it has not subscribed yet"
        """Why it does not consume; None while it does."""
        self.oldest: float | None = None
        """When the oldest message that is not settled was sent, in seconds since the epoch."""

    def opened(self) -> None:
        """It consumes. What was not settled before comes again, to whoever is the queue's active consumer."""
        self.hindrance, self.oldest = None, None

    def closed(self, reason: str) -> None:
        """It does not consume any more. What it had not settled goes on waiting."""
        self.hindrance = reason


class Served:
    """What consumers count, and how each of them does."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = time.time) -> None:
        """Registers its metrics; `now` gives seconds since the epoch."""
        self._requests = Counter(
            "moorage_requests_total",
            "Requests that were settled, by what became of them.",
            ("request", "outcome"),
            registry=registry,
        )
        self._latency = Histogram(
            "moorage_request_seconds",
            "From a request's being sent to its answer's being on the way, or to its settlement.",
            ("request",),
            buckets=SECONDS,
            registry=registry,
        )
        self._sizes = Histogram(
            "moorage_batch_requests",
            "Requests that were served in one transaction.",
            ("queue",),
            buckets=_SIZES,
            registry=registry,
        )
        self._durations = Histogram(
            "moorage_batch_seconds",
            "From a batch's being taken to its acknowledgement.",
            ("queue",),
            buckets=SECONDS,
            registry=registry,
        )
        self._deaths = Counter(
            "moorage_dead_letters_total",
            "Dead letters that this process wrote, by the code of the error.",
            ("code",),
            registry=registry,
        )
        for code in Code:
            self._deaths.labels(code)
        self.consumers: list[Watched] = []
        self._now = now
        # What labels() finds out each time.
        self._counted: dict[tuple[str, str], Counter] = {}
        failed = _OUTCOMES[Failed]
        for name in (*REQUESTS, UNKNOWN):  # an increase from nothing is none that Prometheus sees
            self._counted[name, failed] = self._requests.labels(name, failed)
        self._timed: dict[str, Histogram] = {}
        registry.register(_Consumers(self.consumers, now))

    def consumer(self, queue: str) -> Watched:
        """A new consumer of this queue."""
        watched = Watched(queue)
        self.consumers.append(watched)
        return watched

    def batch(self, queue: str, size: int, took_s: float) -> None:
        """A batch was settled."""
        self._sizes.labels(queue).observe(size)
        self._durations.labels(queue).observe(took_s)

    def settled(self, tally: Tally[tuple[str, str]], latencies: Iterable[tuple[str, float]]) -> None:
        """So many requests of each (request, outcome) were settled, and how many seconds each took."""
        for key, number in tally.items():
            child = self._counted.get(key)
            if child is None:
                child = self._counted[key] = self._requests.labels(*key)
            child.inc(number)
        for request, seconds in latencies:
            timed = self._timed.get(request)
            if timed is None:
                timed = self._timed[request] = self._latency.labels(request)
            timed.observe(seconds)

    def died(self, code: str) -> None:
        """A dead letter was written."""
        self._deaths.labels(code if code in _CODES else Code.INTERNAL).inc()


class _Consumers(Collector):
    """What is read off the consumers at each scrape."""

    def __init__(self, consumers: Sequence[Watched], now: Callable[[], float]) -> None:
        self._consumers = consumers
        self._now = now

    def collect(self) -> Iterable[Metric]:
        consuming = GaugeMetricFamily(
            "moorage_queue_consuming", "Consumers of this process that are subscribed.", labels=("queue",)
        )
        oldest = GaugeMetricFamily(
            "moorage_queue_oldest_seconds",
            "Age of the oldest message that a consumer of this process has, or had when it stopped.",
            labels=("queue",),
        )
        counts: Tally[str] = Tally()
        ages: dict[str, float] = {}
        for watched in list(self._consumers):
            counts[watched.queue] += watched.hindrance is None
            sent = watched.oldest
            age = max(0.0, self._now() - sent) if sent is not None else 0.0
            ages[watched.queue] = max(age, ages.get(watched.queue, 0.0))
        for queue, age in ages.items():
            consuming.add_metric((queue,), counts[queue])
            oldest.add_metric((queue,), age)
        yield from (consuming, oldest)


class Asked:
    """What a client of the allocator counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers its metrics."""
        self._requests = Counter(
            "moorage_asked_total",
            "Requests that this process sent, by `answered` or the code of the error.",
            ("request", "outcome"),
            registry=registry,
        )
        self._latency = Histogram(
            "moorage_asked_seconds",
            "From asking to the answer, or to the error.",
            ("request",),
            buckets=SECONDS,
            registry=registry,
        )

    def came_back(self, request: str, seconds: float, code: str | None) -> None:
        """A request was answered, or failed with `code`, after so many seconds."""
        outcome = "answered" if code is None else code if code in _CODES else Code.INTERNAL
        self._requests.labels(request, outcome).inc()
        self._latency.labels(request).observe(seconds)
