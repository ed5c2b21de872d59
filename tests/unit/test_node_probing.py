"""A network whose segment is to be asked, on a node whose worker may not: it says so before any pod comes."""

from pathlib import Path

import pytest

from node_worker import pulse, reports, sync
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator, present
from tests.node_fakes import FakeHost, call, node, until

ALL = ("sync", "reconcile", "reports", "releases", "pulse")
FORBIDDEN = ServiceError(Code.KERNEL_REFUSED, "run the node worker with CAP_NET_RAW", operation="probe")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds in place of seconds."""
    monkeypatch.setattr(sync, "_PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(sync, "_WAIT_S", 0.3)
    monkeypatch.setattr(reports, "_PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(pulse, "_EVERY_S", 0.03)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def told(allocator: FakeAllocator) -> list[tuple[str, str, str]]:
    return [
        (report.network, report.result, report.error.code if report.error is not None else "")
        for report in allocator.reports
    ]


async def test_a_network_that_cannot_be_probed_is_reported_and_others_are_made(
    path: Path, host: FakeHost
) -> None:
    allocator = FakeAllocator(present("lan", uplink="eth1"), present("prod"))
    host.fail["probe"] = FORBIDDEN
    async with node(path, allocator, host, ALL):
        await until(lambda: len(allocator.reports) == 2)
    assert sorted(told(allocator)) == [("lan", "error", "kernel_refused"), ("prod", "ready", "")]


async def test_a_pod_of_such_a_network_is_refused_with_what_to_do(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present("lan", uplink="eth1"))
    host.fail["probe"] = FORBIDDEN
    async with node(path, allocator, host, ALL) as worker:
        await until(lambda: told(allocator))
        with pytest.raises(ServiceError, match=r"kernel_refused: .* CAP_NET_RAW") as refused:
            await worker.handlers.add(call(network="lan"))
    assert (refused.value.code, refused.value.retryable) == (Code.NETWORK_NOT_READY, True)
    assert host.endpoints == {}


async def test_pods_that_are_there_are_looked_after_by_a_worker_that_may_not_ask(
    path: Path, host: FakeHost
) -> None:
    allocator = FakeAllocator(present("lan", uplink="eth1"))
    async with node(path, allocator, host, ALL) as worker:
        await worker.handlers.add(call(network="lan"))
    host.fail["probe"] = FORBIDDEN
    host.mended.clear()
    async with node(path, allocator, host, ALL) as worker:
        await until(lambda: ("lan", "error", "kernel_refused") in told(allocator))
        assert host.mended == {"lan": set(host.endpoints)}
        await worker.handlers.delete(call("DEL", network="lan"))
    assert host.endpoints == {}
