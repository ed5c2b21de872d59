"""What an allocator says of its readiness, and what it tells of the database, and does not tell."""

from collections.abc import Callable
from typing import Any, cast

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from allocator.database import Database
from allocator.metrics import MOST_POOLS, OTHERS, SurveyMetrics
from allocator.readiness import readiness
from allocator.store.survey import PoolCount
from allocator.survey import SILENT_S, Counts, Survey
from broker.metrics import Watched
from broker.outcome import Unavailable
from schemas.health import Check, Health
from tests.metrics_fakes import survey


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeDatabase:
    """Answers with what is in `answers`, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    def run(self, work: Callable[[Connection], Any]) -> Any:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    attempt = run


def asking(*answers: Any) -> tuple[Survey, FakeDatabase, Clock]:
    clock, database = Clock(), FakeDatabase(*answers)
    return Survey(cast("Database", database), clock), database, clock


def consumer(hindrance: str | None = None) -> Watched:
    watched = Watched("moorage.allocator.0")
    watched.opened()
    watched.hindrance = hindrance
    return watched


def wrong(health: Health) -> dict[str, str]:
    assert health.ok == all(check.ok for check in health.checks)
    return {check.name: check.message for check in health.checks if not check.ok}


def check(health: Health, name: str) -> Check:
    return next(check for check in health.checks if check.name == name)


def test_it_is_ready_when_it_consumes_and_the_database_takes_writes():
    health = readiness(survey(), [consumer()])
    assert wrong(health) == {}
    assert {check.message for check in health.checks} == {""}


def test_a_pause_is_told_of_and_it_is_ready_all_the_same():
    health = readiness(survey(paused=True), [consumer()])
    assert health.ok
    assert "moorage db resume" in check(health, "paused").message


def test_a_database_that_is_away_is_named_with_its_reason():
    away = wrong(readiness(survey(problem="the database is away: server has gone away"), [consumer()]))
    assert "gone away" in away["database"]


def test_a_database_that_says_nothing_for_long_counts_as_away():
    made, _, clock = asking((False, "0001"))
    made.look()
    assert made.away is None
    clock.now = SILENT_S + 1
    assert "16 s" in (made.away or "")


def test_an_older_schema_is_no_ground_to_serve_on():
    made, _, _ = asking((False, "0001"))
    made.known = "0099"
    made.look()
    assert made.outdated
    assert "moorage db upgrade" in wrong(readiness(made, [consumer()]))["schema"]


def test_a_newer_schema_is_told_of_and_served():
    made, _, _ = asking((False, "9999"))
    made.look()
    health = readiness(made, [consumer()])
    assert health.ok
    assert "9999" in check(health, "schema").message


def test_a_database_without_our_tables_is_to_be_upgraded():
    missing = ProgrammingError("UPDATE", {}, Exception(1146, "Table 'm.epochs' doesn't exist"))
    made, _, _ = asking(missing)
    made.look()
    assert set(wrong(readiness(made, [consumer()]))) == {"schema"}


def test_a_queue_that_is_not_consumed_is_named_with_the_reason():
    health = readiness(survey(), [consumer(), consumer("the channel was closed")])
    assert "moorage.allocator.0: the channel was closed" in wrong(health)["queues"]


def test_before_it_consumes_at_all_it_is_not_ready():
    assert set(wrong(readiness(survey(), []))) == {"queues"}


def test_counts_are_made_as_seldom_as_they_cost():
    counts = Counts()
    made, database, clock = asking((False, "1"), counts, {}, counts, {}, counts)
    made.look()

    made.count()
    assert database.asked == 3
    clock.now = 9.0
    made.count()
    assert database.asked == 3, "not yet"
    clock.now = 10.0
    made.count()
    assert database.asked == 5


def test_a_slow_count_is_not_repeated_soon():
    made, database, clock = asking((False, "1"))
    made.look()

    def counted(work: Callable[[Connection], Any]) -> Any:
        database.asked += 1
        clock.now += 1.0
        return {} if database.asked % 2 else Counts()

    database.attempt = counted  # type: ignore[method-assign]
    made.count()
    assert made.took_s == {"counts": 1.0, "addresses": 1.0}
    asked = database.asked
    clock.now = 30.0
    made.count()
    assert database.asked == asked


def test_a_count_that_fails_does_not_make_the_database_look_away():
    lost = OperationalError("SELECT", {}, Exception(2013, "Lost connection during query"))
    made, _, _ = asking((False, "1"), Counts(), {}, lost)
    made.look()
    made.count()
    made._count_at = 0.0
    made.count()
    assert made.away is None
    assert made.counts is not None


def test_nothing_is_counted_while_the_database_is_away_and_old_numbers_are_forgotten():
    made, database, _ = asking((False, "1"), Counts(), {}, Unavailable("away"))
    made.look()
    made.count()
    made.look()
    asked = database.asked
    made.count()
    assert (made.counts, made.withheld, database.asked) == (None, None, asked)


def told(made: Survey, ready: Health | None = None) -> dict[str, float]:
    registry = CollectorRegistry()
    SurveyMetrics(made, lambda: ready or Health.of(), registry)
    return {
        "{}{}".format(sample.name, sorted(sample.labels.values()) or ""): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def test_while_the_database_is_away_nothing_is_told_of_what_it_holds():
    bad = Health.of(Check(name="database", ok=False))
    assert told(survey(problem="away"), bad) == {"moorage_allocator_ready": 0, "moorage_database_up": 0}


def test_states_without_anything_in_them_are_told_as_none():
    numbers = told(survey())
    assert numbers["moorage_addresses['attached', 'prod', 'web']"] == 3
    assert numbers["moorage_addresses['prod', 'waiting', 'web']"] == 1
    assert numbers["moorage_addresses['free', 'prod', 'web']"] == 6
    assert numbers["moorage_addresses['prod', 'quarantined', 'web']"] == 0
    assert numbers["moorage_nodes['lost']"] == 0


def test_however_many_pools_there_are_the_samples_are_bounded_and_nothing_is_left_out():
    pools = [PoolCount("n", f"p{number}", number, 4, 100, number % 100) for number in range(3 * MOST_POOLS)]
    numbers = told(
        survey(counts=Counts(pools=pools), withheld={(number, "waiting"): 1 for number in range(1, 99)})
    )
    used = {name: value for name, value in numbers.items() if name.startswith("moorage_pool_used_addresses")}
    assert len(used) == MOST_POOLS + 1
    assert sum(used.values()) == sum(pool.used for pool in pools)
    assert used[f"moorage_pool_used_addresses['{OTHERS}', '{OTHERS}', '4']"] > 0
    assert any("p99'" in name for name in used), "the fullest are told one by one"
    by_state = [value for name, value in numbers.items() if name.startswith("moorage_addresses")]
    assert sum(by_state) == sum(pool.total for pool in pools)
    waiting = [value for name, value in numbers.items() if "'waiting'" in name]
    assert sum(waiting) == 98
