"""Registries with every metric of each process, each with a sample, and no process behind them."""

from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from allocator.database import Database
from allocator.metrics import SurveyMetrics
from allocator.store.survey import PoolCount
from allocator.survey import Counts, Survey
from broker.depths import Depths
from broker.metrics import Asked, Served
from compose.monitoring import LoopWatch, new_registry
from node_worker.metrics import NodeMetrics, Watched
from node_worker.survey import Counts as JournalCounts
from schemas.health import Health

POOL = PoolCount("prod", "web", 1, 4, 10, 4)


def survey(**told: Any) -> Survey:
    """A survey whose last answers were good, and as `told`."""
    found = Survey(cast("Database", None))
    found.problem, found.revision, found._answered_at = None, found.known, found._now()
    found.counts, found.withheld = Counts(pools=(POOL,)), {(1, "waiting"): 1}
    for name, value in told.items():
        setattr(found, name, value)
    return found


def watched(**parts: Any) -> Watched:
    """A node worker at which all is well, but for `parts`."""
    fine = lambda: None  # noqa: E731
    made = {
        "pulse": SimpleNamespace(check=fine, answered_ago=1.5),
        "gate": SimpleNamespace(check=fine),
        "sync": SimpleNamespace(check_fetched=fine, mends=0, refused=[]),
        "journal": SimpleNamespace(check=fine),
        "reconcile": SimpleNamespace(stale=0, unknown=0),
        "vanished": SimpleNamespace(released=0),
        "conflicts": SimpleNamespace(asked=0, seen=0),
        "survey": SimpleNamespace(counts=JournalCounts()),
    }
    return Watched(**cast("Any", made | parts))


def unwatched() -> NodeMetrics:
    """For a worker whose metrics nobody asks for."""
    return NodeMetrics(CollectorRegistry(), lambda: True)


def registries() -> Mapping[str, CollectorRegistry]:
    """By process, as `new_registry` names them."""
    return {"allocator": _allocator(), "node": _node()}


def _allocator() -> CollectorRegistry:
    registry = new_registry("allocator")
    LoopWatch(registry)
    served = Served(registry)
    served.consumer("moorage.queries").opened()
    served.settled(Counter({("address.allocate", "applied"): 1}), [("address.allocate", 0.01)])
    served.batch("moorage.queries", 1, 0.01)
    depths = Depths(("moorage.dead",), registry)
    depths._found = {"moorage.dead": (1, 0)}
    SurveyMetrics(survey(), Health.of, registry)
    return registry


def _node() -> CollectorRegistry:
    registry = new_registry("node")
    LoopWatch(registry)
    Asked(registry).came_back("address.allocate", 0.01, None)
    metrics = NodeMetrics(registry, lambda: True)
    metrics.watch(watched())
    metrics.called("ADD", 0, 0.01)
    return registry
