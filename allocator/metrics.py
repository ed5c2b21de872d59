"""What an allocator measures of the state it owns, read off the last survey at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from allocator.store.survey import WITHHELD, PoolCount
from allocator.survey import Counts, Survey
from schemas.health import Health
from schemas.network import NetworkState, RolloutState
from schemas.node import NodeState

MOST_POOLS = 500
"""How many pools have samples of their own: those with the largest part in use. The rest is told together."""
OTHERS = "(others)"

_NETWORK_STATES = tuple(state for state in get_args(NetworkState) if state != "deleted")


class SurveyMetrics(Collector):
    """Gauges of a survey. Where the database is away there are none of what it holds."""

    def __init__(self, survey: Survey, ready: Callable[[], Health], registry: CollectorRegistry) -> None:
        """Registers itself."""
        self._survey = survey
        self._ready = ready
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The gauges; asks nobody."""
        survey = self._survey
        up = survey.away is None
        yield _gauge(
            "moorage_allocator_ready", "Whether this allocator serves: 1 as /readyz is 200.", self._ready().ok
        )
        yield _gauge("moorage_database_up", "Whether the database takes writes.", up)
        if not up:
            return
        yield _gauge("moorage_paused", "Whether new addresses are withheld after a restore.", survey.paused)
        yield _by(
            "what", "moorage_survey_seconds", "How long the last counts in the database took.", survey.took_s
        )
        if (counts := survey.counts) is not None:
            yield from _of_counts(counts)
            yield from _of_pools(counts.pools, survey.withheld or {})


def _of_counts(counts: Counts) -> Iterable[Metric]:
    yield _by_state("moorage_nodes", "Nodes that ever synced.", counts.nodes, get_args(NodeState))
    yield _by_state(
        "moorage_networks", "Networks, without those that are deleted.", counts.networks, _NETWORK_STATES
    )
    yield _by_state(
        "moorage_rollouts",
        "Networks on nodes: how far each is there.",
        counts.rollouts,
        get_args(RolloutState),
    )
    yield _gauge("moorage_relay_lag_events", "History rows not yet sent as events.", counts.lag.rows)
    yield _gauge(
        "moorage_relay_lag_seconds",
        "Age of the oldest history row not yet sent as an event.",
        counts.lag.oldest_s,
    )
    yield _gauge("moorage_jobs", "Jobs that wait for nodes.", counts.outbox.jobs)
    yield _gauge("moorage_outbox_answers", "Answers of jobs that wait to be sent.", counts.outbox.answers)
    yield _gauge(
        "moorage_outbox_seconds",
        "Age of the oldest request whose answer waits to be sent.",
        counts.outbox.oldest_s,
    )


def _of_pools(pools: Sequence[PoolCount], withheld: Mapping[tuple[int, str], int]) -> Iterable[Metric]:
    labels = ("network", "pool", "family")
    total = GaugeMetricFamily("moorage_pool_addresses", "Addresses of a pool, used or not.", labels=labels)
    used = GaugeMetricFamily(
        "moorage_pool_used_addresses", "Addresses of a pool that are not free.", labels=labels
    )
    addresses = GaugeMetricFamily(
        "moorage_addresses", "Addresses of a pool by state.", labels=("network", "pool", "state")
    )
    sizes: Counter[tuple[str, str, str]] = Counter()
    uses: Counter[tuple[str, str, str]] = Counter()
    counted: Counter[tuple[str, str, str]] = Counter()
    names = _names(pools)
    for pool in pools:
        name = names.get(pool.pool_id, (OTHERS, OTHERS))
        sizes[*name, str(pool.family)] += pool.total
        uses[*name, str(pool.family)] += pool.used
        counted[*name, "free"] += pool.total - pool.used
        counted[*name, "attached"] += pool.used
    for pool_id in {pool.pool_id for pool in pools}:
        name = names.get(pool_id, (OTHERS, OTHERS))
        for state in WITHHELD:
            number = withheld.get((pool_id, state), 0)
            counted[*name, state] += number
            counted[*name, "attached"] -= number
    for family, values in ((total, sizes), (used, uses), (addresses, counted)):
        for labelled, value in values.items():
            # Counters and index are read at different times: where much happens they may differ.
            family.add_metric(labelled, max(0, value))
    yield from (total, used, addresses)


def _names(pools: Sequence[PoolCount]) -> Mapping[int, tuple[str, str]]:
    """Network and pool of those that are told one by one."""
    fullest = sorted(pools, key=lambda pool: pool.used / pool.total, reverse=True)
    names: dict[int, tuple[str, str]] = {}
    for pool in fullest:
        if len(names) < MOST_POOLS:
            names[pool.pool_id] = (pool.network, pool.pool)
    return names


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _by_state(name: str, told: str, counts: Mapping[str, int], states: Sequence[str]) -> Metric:
    return _by("state", name, told, {state: counts.get(state, 0) for state in states})


def _by(label: str, name: str, told: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
