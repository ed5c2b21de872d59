"""What running processes tell of themselves: numbers that move, health that is true, logs without secrets."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.health import Health
from tests.acceptance.machines import Machine, Pod, machine_of, until
from tests.metrics_fakes import registries

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("monitoring"),
]
AWAY_S = 60

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    with machine_of(tmp_path_factory.mktemp("m"), shim, nodes=1) as running:
        yield running


def get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scrape(address: str) -> Samples:
    status, body = get(address, "/metrics")
    assert status == 200, body
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def readiness(address: str) -> tuple[int, Health]:
    status, body = get(address, "/readyz")
    return status, Health.model_validate_json(body)


def allocator(machine: Machine) -> str:
    return machine.stack.allocator_monitoring or ""


def node(machine: Machine) -> str:
    return machine.stack.nodes[0].monitoring or ""


def ready(machine: Machine) -> bool:
    return all(readiness(address)[0] == 200 for address in (allocator(machine), node(machine)))


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples if name.startswith("moorage_")}


def test_every_metric_that_is_documented_is_told_by_a_process_that_runs(machine: Machine):
    pod = Pod(machine, "shop/web-0", "node-1")
    pod.add()
    pod.delete()
    wanted = {
        where: {
            sample.name
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name.startswith("moorage_")
        }
        for where, registry in registries().items()
    }
    until(lambda: wanted["allocator"] <= names(scrape(allocator(machine))), 60)
    until(lambda: wanted["node"] <= names(scrape(node(machine))), 60)


def test_an_add_and_a_del_are_counted_by_both_processes(machine: Machine):
    def counted() -> dict[str, float]:
        ours, theirs = scrape(allocator(machine)), scrape(node(machine))
        applied = {"request": "address.allocate", "outcome": "applied"}
        return {
            "allocates": value(ours, "moorage_requests_total", **applied) or 0,
            "timed": value(ours, "moorage_request_seconds_count", request="address.allocate") or 0,
            "asked": value(theirs, "moorage_asked_total", request="address.allocate", outcome="answered")
            or 0,
            "adds": value(theirs, "moorage_cni_calls_total", verb="ADD", code="0") or 0,
            "dels": value(theirs, "moorage_cni_calls_total", verb="DEL", code="0") or 0,
        }

    before = counted()
    pod = Pod(machine, "shop/web-1", "node-1")
    pod.add()
    try:
        until(lambda: counted() == before | {key: before[key] + 1 for key in before if key != "dels"})
        held = {"network": "prod", "pool": "web", "state": "attached"}
        until(lambda: value(scrape(allocator(machine)), "moorage_addresses", **held) == 1, AWAY_S)
        until(lambda: value(scrape(node(machine)), "moorage_attachments", state="attached") == 1)
    finally:
        pod.delete()
    until(lambda: counted() == {key: number + 1 for key, number in before.items()})
    used = {"network": "prod", "pool": "web", "family": "4"}
    samples = scrape(allocator(machine))
    assert value(samples, "moorage_pool_addresses", **used) == 10


def test_one_pod_is_followed_by_its_attachment_id(machine: Machine):
    pod = Pod(machine, "shop/web-2", "node-1")
    pod.add()
    pod.delete()
    calls = until(lambda: lines(machine.stack.nodes[0].process.log, pod.container_id, 2))
    (attachment_id,) = {line["attachment_id"] for line in calls if line["event"] == "CNI call"}
    batches = until(lambda: lines(machine.stack.allocator.log, attachment_id, 2))
    assert [line["requests"] for line in batches] == [
        {"address.allocate applied": 1},
        {"address.release applied": 1},
    ]
    assert all(line["attachment_ids"] == [attachment_id] for line in batches)


def lines(log: Path, text: str, count: int) -> list[dict[str, object]] | None:
    """The lines of a log that name `text`, once there are as many."""
    found = [json.loads(line) for line in log.read_text().splitlines() if text in line]
    return found if len(found) >= count else None


def test_a_database_that_is_away_is_told_of_until_it_is_back(machine: Machine):
    until(lambda: ready(machine), AWAY_S)
    local = machine.stack.servers.local
    assert local is not None
    local.mariadb.stop()
    try:
        health = until(lambda: told(allocator(machine)), AWAY_S)
        (database,) = [check for check in health.checks if check.name == "database"]
        assert not database.ok
        assert "bring it back" in database.message
        assert get(allocator(machine), "/healthz")[0] == 200
        samples = scrape(allocator(machine))
        assert value(samples, "moorage_database_up") == 0
        assert value(samples, "moorage_allocator_ready") == 0
        assert "moorage_pool_addresses" not in names(samples)
    finally:
        local.mariadb.start()
    until(lambda: ready(machine), AWAY_S)
    until(lambda: value(scrape(allocator(machine)), "moorage_database_up") == 1)


def told(address: str) -> Health | None:
    """What it says once it is not ready."""
    status, health = readiness(address)
    return health if status == 503 else None


def test_a_broker_that_is_away_is_told_of_by_the_node_until_it_is_back(machine: Machine):
    until(lambda: ready(machine), AWAY_S)
    local = machine.stack.servers.local
    assert local is not None
    local.rabbitmq.stop()
    try:
        health = until(lambda: told(node(machine)), AWAY_S)
        assert "allocator" in {check.name for check in health.checks if not check.ok}
        samples = scrape(node(machine))
        assert value(samples, "moorage_broker_connected") == 0
        assert value(samples, "moorage_node_ready") == 0
        queues = until(lambda: told(allocator(machine)), AWAY_S)
        assert [check.name for check in queues.checks if not check.ok] == ["queues"]
    finally:
        local.rabbitmq.start()
    until(lambda: ready(machine), AWAY_S)


def test_no_log_holds_a_password(machine: Machine):
    """Last of all: they tell of servers that were away, too."""
    stack = machine.stack
    processes = [stack.allocator, *(each.process for each in stack.nodes)]
    urls = [value for process in processes for value in urls_of(process.pid)]
    passwords = {password for url in urls if (password := urlsplit(url).password)}
    assert len(passwords) == len(urls) == 3
    for process in processes:
        text = process.log.read_text()
        assert "monitoring listens" in text
        assert not [password for password in passwords if password in text]


def urls_of(pid: int | None) -> list[str]:
    """Every URL in the files that the environment of a process of ours names."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    files = [match[1] for text in variables if (match := re.fullmatch(r"MOORAGE_\w+_URL_FILE=(.*)", text))]
    return [Path(file).read_text().strip() for file in files]
