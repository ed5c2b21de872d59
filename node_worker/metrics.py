"""What a node worker measures: CNI calls, attachments, its journal, its networks, and who it reaches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.metrics import SECONDS
from cni.request import Command
from node_worker.attachments import State
from node_worker.conflicts import Conflicts
from node_worker.gate import Gate
from node_worker.journal import Journal
from node_worker.networks import Outcome
from node_worker.pulse import Pulse
from node_worker.readiness import readiness
from node_worker.reconcile import Reconcile
from node_worker.survey import Survey
from node_worker.sync import Sync
from node_worker.vanished import Vanished
from schemas.health import Check, Health

NO_VERB = "unknown"
"""The label of calls that could not be read."""

_VERBS = frozenset(map(str, Command))
_STARTING = Check(name="start", ok=False, message="it starts: what an earlier worker left is being undone")


@dataclass(frozen=True, slots=True)
class Watched:
    """The parts of a running worker that are looked at."""

    pulse: Pulse
    gate: Gate
    sync: Sync
    journal: Journal
    reconcile: Reconcile
    vanished: Vanished
    conflicts: Conflicts
    survey: Survey


class NodeMetrics(Collector):
    """One worker's. What it collects asks nobody and may be asked for in any thread."""

    def __init__(self, registry: CollectorRegistry, connected: Callable[[], bool]) -> None:
        """Registers its metrics; `connected` says whether the broker is."""
        self._connected = connected
        self._watched: Watched | None = None
        self._calls = Counter(
            "moorage_cni_calls_total",
            "CNI calls that were answered, by verb and CNI code; 0 is a success.",
            ("verb", "code"),
            registry=registry,
        )
        self._durations = Histogram(
            "moorage_cni_call_seconds",
            "From a CNI call's connection to its answer.",
            ("verb",),
            buckets=SECONDS,
            registry=registry,
        )
        registry.register(self)

    def called(self, verb: str | None, code: int, seconds: float) -> None:
        """A CNI call was answered."""
        label = verb if verb in _VERBS else NO_VERB
        self._calls.labels(label, str(code)).inc()
        self._durations.labels(label).observe(seconds)

    def watch(self, watched: Watched) -> None:
        """From now on there is a worker to look at."""
        self._watched = watched

    def ready(self) -> Health:
        """Whether the node attaches pods now."""
        at = self._watched
        return readiness(at.pulse, at.gate, at.sync, at.journal) if at is not None else Health.of(_STARTING)

    def collect(self) -> Iterable[Metric]:
        """What is read off the worker. Without a journal there is nothing of what it holds."""
        health, at = self.ready(), self._watched
        yield _gauge("moorage_node_ready", "Whether this node attaches pods: 1 as /readyz is 200.", health.ok)
        yield _gauge("moorage_broker_connected", "Whether RabbitMQ is connected.", self._connected())
        if at is None:
            return
        writable = all(check.ok for check in health.checks if check.name == "journal")
        yield _gauge("moorage_journal_writable", "Whether the journal was written when last tried.", writable)
        yield _gauge(
            "moorage_heartbeat_age_seconds",
            "Since the last heartbeat that was answered, or the start.",
            at.pulse.answered_ago,
        )
        yield from _counters(at)
        counts = at.survey.counts
        if counts is None:
            return
        yield _gauge(
            "moorage_journal_releases", "Releases that wait for the allocator's answer.", counts.releases
        )
        states = [str(state) for state in State]
        yield _by_state("moorage_attachments", "Attachments in the journal.", counts.attachments, states)
        yield _by_state(
            "moorage_node_networks",
            "Networks that this node has, makes or removes.",
            counts.networks,
            get_args(Outcome),
        )


def _counters(at: Watched) -> Iterable[Metric]:
    for name, told, value in (
        ("moorage_network_mends", "Looks that found networks which somebody had changed.", at.sync.mends),
        (
            "moorage_vanished_pods",
            "Pods that went without a DEL and whose addresses were released.",
            at.vanished.released,
        ),
        (
            "moorage_stale_attachments",
            "Endpoints removed because the allocator had ended their attachment.",
            at.reconcile.stale,
        ),
        ("moorage_unknown_attachments", "Attachments that the allocator did not know.", at.reconcile.unknown),
        ("moorage_probed_addresses", "Addresses asked for on their segment before use.", at.conflicts.asked),
        ("moorage_conflicts", "Addresses that somebody else answered for.", at.conflicts.seen),
    ):
        yield CounterMetricFamily(name, told, value=value)


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _by_state(name: str, told: str, counts: Mapping[str, int], states: Sequence[str]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=("state",))
    for state in states:
        family.add_metric((state,), counts.get(state, 0))
    return family
