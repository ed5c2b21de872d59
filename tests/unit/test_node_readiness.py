"""What a node worker says of its readiness, and what it counts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from node_worker.journal import Journal
from node_worker.metrics import NodeMetrics
from node_worker.survey import Counts, Survey
from schemas.errors import Code, ServiceError
from tests.metrics_fakes import watched


def metrics(connected: bool = True) -> tuple[NodeMetrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return NodeMetrics(registry, lambda: connected), registry


def refusing() -> None:
    raise ServiceError(Code.UNAVAILABLE, "it is not there: bring it back")


def test_a_worker_that_starts_is_not_ready_and_says_so():
    made, registry = metrics()
    assert [check.name for check in made.ready().checks] == ["start"]
    assert registry.get_sample_value("moorage_node_ready") == 0


def test_it_is_ready_when_all_is_well():
    made, registry = metrics()
    made.watch(watched())
    assert made.ready().ok
    assert registry.get_sample_value("moorage_node_ready") == 1


@pytest.mark.parametrize(
    ("part", "method", "name"),
    [
        ("pulse", "check", "allocator"),
        ("gate", "check", "attachments"),
        ("sync", "check_fetched", "networks"),
        ("journal", "check", "journal"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(part: str, method: str, name: str):
    made, registry = metrics()
    broken = SimpleNamespace(answered_ago=1.0, mends=0, refused=[])
    setattr(broken, method, refusing)
    made.watch(watched(**{part: broken}))
    (check,) = [check for check in made.ready().checks if not check.ok]
    assert (check.name, check.message) == (name, "it is not there: bring it back")
    assert registry.get_sample_value("moorage_node_ready") == 0
    assert registry.get_sample_value("moorage_journal_writable") == (part != "journal")


def test_networks_in_error_are_told_of_and_pods_of_others_are_attached():
    made, _ = metrics()
    networks = [f"net-{number}" for number in range(7)]
    made.watch(watched(sync=SimpleNamespace(check_fetched=lambda: None, mends=0, refused=networks)))
    health = made.ready()
    assert health.ok
    (message,) = {check.message for check in health.checks} - {""}
    assert message.startswith("in error here: net-0, net-1, net-2, net-3, net-4 and others.")


def test_without_a_journal_nothing_is_told_of_what_it_holds():
    made, registry = metrics()
    made.watch(watched(survey=SimpleNamespace(counts=None)))
    assert registry.get_sample_value("moorage_journal_releases") is None
    assert registry.get_sample_value("moorage_node_ready") == 1


def test_states_without_anything_in_them_are_told_as_none():
    made, registry = metrics()
    made.watch(watched(survey=SimpleNamespace(counts=Counts({"attached": 2}, {"ready": 1}, 3))))
    for state, number in (("attached", 2), ("removing", 0)):
        assert registry.get_sample_value("moorage_attachments", {"state": state}) == number
    assert registry.get_sample_value("moorage_node_networks", {"state": "error"}) == 0
    assert registry.get_sample_value("moorage_journal_releases") == 3


def test_calls_are_counted_by_verb_and_code_and_what_is_no_verb_is_unknown():
    made, registry = metrics()
    for verb, code in (("ADD", 0), ("ADD", 11), ("DEL", 0), (None, 6), ("NONSENSE", 4)):
        made.called(verb, code, 0.01)
    counted = {
        (sample.labels["verb"], sample.labels["code"])
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "moorage_cni_calls_total"
    }
    assert counted == {("ADD", "0"), ("ADD", "11"), ("DEL", "0"), ("unknown", "6"), ("unknown", "4")}


async def test_the_journal_is_counted(tmp_path: Path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        await journal.run(
            lambda db: db.execute(
                "INSERT INTO releases (network, container_id, ifname) VALUES ('n', 'c', 'e')"
            )
        )
        survey = Survey(journal)
        await survey.look()
    assert survey.counts == Counts({}, {}, 1)
