"""Networks come to the node and go again, the allocator hears of it, and the node knows when it is alone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node_worker import attachments, networks, pulse, sync
from schemas.errors import Code, ServiceError
from schemas.node import NodeHeartbeat, NodeReport, NodeSync
from tests.node_allocator import FakeAllocator, absent, present, unavailable
from tests.node_fakes import FakeHost, call, node, until

ALL = ("sync", "reconcile", "reports", "releases", "pulse")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds in place of seconds."""
    from node_worker import releases, reports

    monkeypatch.setattr(sync, "_PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(reports, "_PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(releases, "_PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(sync, "_WAIT_S", 0.3)
    monkeypatch.setattr(pulse, "_EVERY_S", 0.03)
    monkeypatch.setattr(pulse, "_AGAIN_S", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def told(allocator: FakeAllocator) -> list[tuple[str, int, str]]:
    return [(report.network, report.version, report.result) for report in allocator.reports]


async def a_round(worker: Any) -> None:
    """Let one whole round pass: it is what tells that a network does not exist."""
    with pytest.raises(ServiceError, match="there is no network"):
        await worker.parts.sync.ready("nosuch")


async def test_all_pages_of_networks_are_made_and_each_is_reported(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(*(present(f"net-{number}") for number in range(5)))
    allocator.page_size = 2
    async with node(path, allocator, host, ALL):
        await until(lambda: len(allocator.reports) == 5)
    assert sorted(host.networks) == [f"net-{number}" for number in range(5)]
    assert sorted(told(allocator)) == [(f"net-{number}", 1, "ready") for number in range(5)]


async def test_a_report_is_sent_until_it_is_answered_also_after_a_restart(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())

    def refuse(request: Any) -> None:
        raise unavailable()

    allocator.hooks["node.report"] = refuse
    async with node(path, allocator, host, ALL):
        await until(lambda: len(allocator.of(NodeReport)) > 2)
    assert told(allocator) == []
    allocator.hooks.clear()
    async with node(path, allocator, host, ("reports",)):
        await until(lambda: told(allocator) == [("prod", 1, "ready")])


async def test_a_report_that_was_answered_is_not_sent_again_after_a_restart(
    path: Path, host: FakeHost
) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL):
        await until(lambda: told(allocator))
    async with node(path, allocator, host, ALL) as worker:
        await worker.parts.sync.ready("prod")
        await a_round(worker)
    assert told(allocator) == [("prod", 1, "ready")]
    assert host.steps == ["ensure", "ensure"], "each worker makes sure of the network once"


async def test_a_report_that_is_refused_holds_up_no_other_and_is_repeated(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present("bad"), present("good"))

    def refuse(request: Any) -> None:
        if request.network == "bad":
            raise ServiceError(Code.SENDER_FORBIDDEN, "not yours")

    allocator.hooks["node.report"] = refuse
    async with node(path, allocator, host, ALL):
        await until(lambda: told(allocator) == [("good", 1, "ready")])
        allocator.hooks.clear()
        await until(lambda: told(allocator) == [("good", 1, "ready"), ("bad", 1, "ready")])


async def test_a_refusal_is_reported_once_and_its_end_too(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    host.fail["ensure"] = ServiceError(Code.UPLINK_MISSING, "no eth1 here", uplink="eth1")
    async with node(path, allocator, host, ALL):
        await until(lambda: host.steps.count("ensure") > 3)
        await until(lambda: told(allocator) == [("prod", 1, "error")])
        host.fail.clear()
        await until(lambda: len(allocator.reports) > 1)
    assert told(allocator) == [("prod", 1, "error"), ("prod", 1, "ready")]
    error = allocator.reports[0].error
    assert error is not None
    assert (error.code, error.message, error.fields) == ("uplink_missing", "no eth1 here", {"uplink": "eth1"})


async def test_a_driver_that_breaks_harms_only_its_own_network(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present("bad"), present("good"))
    ensure = host.ensure

    def broken(network: str, definition: Any, peers: Any) -> None:
        if network == "bad":
            raise ZeroDivisionError
        ensure(network, definition, peers)

    host.ensure = broken  # type: ignore[method-assign]
    async with node(path, allocator, host, ALL):
        await until(lambda: len(allocator.reports) == 2)
    assert sorted(told(allocator)) == [("bad", 1, "error"), ("good", 1, "ready")]


async def test_a_network_to_be_removed_is_removed_reported_and_forgotten(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL) as worker:
        allocator.networks["prod"] = absent(version=2)
        await until(lambda: told(allocator)[-1:] == [("prod", 2, "removed")])
        del allocator.networks["prod"]

        async def forgotten() -> bool:
            return await worker.parts.journal.run(networks.rows) == []

        await until(forgotten)
    assert host.networks == {}


async def test_a_network_with_pods_is_removed_only_when_they_are_gone(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL) as worker:
        await worker.handlers.add(call())
        allocator.networks["prod"] = absent(version=2)
        await until(lambda: told(allocator)[-1:] == [("prod", 2, "error")])
        error = allocator.reports[-1].error
        assert error is not None
        assert "1 attachments" in error.message
        assert "c1" in error.message
        assert "prod" in host.networks
        await worker.handlers.delete(call("DEL"))
        await until(lambda: told(allocator)[-1:] == [("prod", 2, "removed")])
    assert host.networks == {}


async def test_a_network_that_is_listed_no_more_is_removed(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present("prod"), present("test"))
    async with node(path, allocator, host, ALL) as worker:
        del allocator.networks["prod"]
        worker.parts.sync.wake()
        await until(lambda: list(host.networks) == ["test"])


async def test_an_older_version_is_ignored(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present(version=7))
    async with node(path, allocator, host, ALL) as worker:
        allocator.networks["prod"] = absent(version=6)
        await a_round(worker)
        (row,) = await worker.parts.journal.run(networks.rows)
    assert (row.version, row.desired) == (7, "present")
    assert "prod" in host.networks


async def test_another_uplink_means_taking_the_old_network_down_first(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present(uplink="eth1"))
    async with node(path, allocator, host, ALL) as worker:
        allocator.networks["prod"] = present(version=2, uplink="eth2")
        await worker.parts.sync.ready("prod", 2)
    assert host.steps == ["ensure", "remove", "ensure"]
    assert host.networks["prod"].driver.uplink == "eth2"


async def test_a_heartbeat_with_another_digest_brings_what_is_new(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL):
        allocator.networks["late"] = present("late")
        await until(lambda: "late" in host.networks)


async def test_equal_digests_fetch_nothing(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL):
        beats = len(allocator.of(NodeHeartbeat))
        await until(lambda: len(allocator.of(NodeHeartbeat)) > beats + 1)
        rounds = len(allocator.of(NodeSync))
        beats = len(allocator.of(NodeHeartbeat))
        await until(lambda: len(allocator.of(NodeHeartbeat)) > beats + 3)
    assert len(allocator.of(NodeSync)) == rounds


async def test_two_unanswered_heartbeats_make_the_node_unhealthy_until_one_is_answered(
    path: Path, host: FakeHost
) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL) as worker:
        assert worker.parts.pulse.healthy
        allocator.down = True
        await until(lambda: not worker.parts.pulse.healthy)
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call())
        assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)
        allocator.down = False
        await until(lambda: worker.parts.pulse.healthy)
        await worker.handlers.add(call())


async def test_one_unanswered_heartbeat_is_forgiven(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host) as worker:
        for misses in (1, 0, 1):
            allocator.down = bool(misses)
            await worker.parts.pulse._beat()
            assert worker.parts.pulse.healthy


async def test_an_allocator_that_is_away_at_start_is_waited_for(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    allocator.down = True
    async with node(path, allocator, host, ALL) as worker:
        await until(lambda: len(allocator.of(NodeSync)) > 2)
        assert not worker.parts.pulse.healthy
        allocator.down = False
        await until(lambda: told(allocator) == [("prod", 1, "ready")] and worker.parts.pulse.healthy)
        await worker.handlers.add(call())


async def test_a_thousand_releases_all_arrive_and_never_too_many_at_once(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    now, most = 0, 0

    async def count(request: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    allocator.hooks["address.release"] = count
    async with node(path, allocator, host) as worker:

        def owe(connection: Any) -> None:
            for number in range(1000):
                attachments.owe_nameless(connection, "prod", f"c{number}", "eth0")

        await worker.parts.journal.run(owe)
        worker.parts.releases._owing.ring()

        async def none_owed() -> bool:
            return await worker.parts.journal.run(attachments.owed) == []

        await until(none_owed, 20)
    assert (
        len({request.container_id for request in allocator.asked if hasattr(request, "container_id")}) == 1000
    )
    assert 1 < most <= 16


async def test_one_release_that_is_always_refused_holds_up_no_other(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())

    def refuse(request: Any) -> None:
        if request.container_id == "poison":
            raise ServiceError(Code.SENDER_FORBIDDEN, "not yours")

    allocator.hooks["address.release"] = refuse
    async with node(path, allocator, host) as worker:
        for container in ("poison", "c1", "c2"):
            release = await worker.parts.journal.run(attachments.owe_nameless, "prod", container, "eth0")
            worker.parts.releases.send(release)

        async def only_poison() -> bool:
            owed = await worker.parts.journal.run(attachments.owed)
            return [item.container_id for item in owed] == ["poison"]

        await until(only_poison)
