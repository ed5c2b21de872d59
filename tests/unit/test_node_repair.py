"""What somebody changes of a network is mended, tunnels follow the nodes, and a last pod's end is noticed."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from node_worker import reports, sync
from schemas.errors import Code, ServiceError
from schemas.node import NodeSync
from tests.node_allocator import FakeAllocator, absent, present
from tests.node_fakes import FakeHost, call, node, until

ALL = ("sync", "reconcile", "reports", "releases", "pulse")
VXLAN = {"type": "vxlan", "vni": 5}
ONE, TWO = IPv4Address("192.168.77.1"), IPv4Address("192.168.77.2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(reports, "_PAUSE_S", (0.01, 0.02))


async def test_a_network_that_is_gone_is_made_again_with_its_pods_and_that_is_said(
    path: Path, host: FakeHost
) -> None:
    allocator = FakeAllocator(present())
    with capture_logs() as logs:
        async with node(path, allocator, host, ("sync", "reconcile"), repair_s=0.02) as worker:
            await worker.handlers.add(call())
            (link,) = host.endpoints
            asked = len(allocator.of(NodeSync))
            host.networks.clear()
            await until(lambda: "prod" in host.networks)
            await until(lambda: host.mended.get("prod") == {link})
            await until(lambda: any("mended" in line["event"] for line in logs))
            assert len(allocator.of(NodeSync)) == asked, "the allocator is not asked for it"
    # Twice, where it was taken away in the middle of a look: once as missing, once as back.
    said = [line["links"] for line in logs if "mended" in line["event"]]
    assert said in ([["prod"]], [["prod"], ["prod"]])


async def test_nothing_is_said_where_nothing_was_changed(path: Path, host: FakeHost) -> None:
    looked: list[str] = []
    host.hook = looked.append
    with capture_logs() as logs:
        async with node(path, FakeAllocator(present()), host, ("sync", "reconcile"), repair_s=0.01):
            await until(lambda: looked.count("ensure") > 6)
    assert [line for line in logs if "mended" in line["event"]] == []


async def test_a_network_that_cannot_be_mended_is_reported_and_its_return_too(
    path: Path, host: FakeHost
) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ("sync", "reconcile", "reports"), repair_s=0.02):
        await until(lambda: [report.result for report in allocator.reports] == ["ready"])
        host.fail["ensure"] = ServiceError(Code.UPLINK_MISSING, "no interface eth1")
        await until(lambda: [report.result for report in allocator.reports][-1:] == ["error"])
        host.fail.clear()
        await until(lambda: [report.result for report in allocator.reports][-1] == "ready")


async def test_a_network_that_is_refused_keeps_no_other_from_being_mended(path: Path, host: FakeHost) -> None:
    ensure = host.ensure

    def refusing(network: str, definition: Any, peers: Any) -> None:
        if network == "bad":
            raise ServiceError(Code.UPLINK_MISSING, "no interface eth9")
        ensure(network, definition, peers)

    host.ensure = refusing  # type: ignore[method-assign]
    allocator = FakeAllocator(present("bad"), present("good"))
    async with node(path, allocator, host, ("sync", "reconcile", "reports"), repair_s=0.05):
        await until(lambda: len(allocator.reports) == 2)
        for _ in range(3):
            host.networks.clear()
            await until(lambda: "good" in host.networks)


async def test_a_node_whose_tunnels_end_elsewhere_now_says_so(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ("sync", "reconcile"), repair_s=0.05):
        host.address = lambda: ONE  # type: ignore[method-assign,assignment,return-value]
        await until(lambda: any(request.address == ONE for request in allocator.of(NodeSync)))


async def test_whatever_happened_while_the_broker_was_away_is_looked_at_on_reconnect(
    path: Path, host: FakeHost
) -> None:
    async with node(path, FakeAllocator(present()), host, ("sync", "reconcile")) as worker:
        host.networks.clear()
        worker.parts.sync.doubt()
        await until(lambda: "prod" in host.networks)


async def test_tunnels_follow_the_nodes_without_another_version_of_the_network(
    path: Path, host: FakeHost
) -> None:
    allocator = FakeAllocator(present(driver=VXLAN), present("plain"))
    allocator.peers = (ONE,)
    async with node(path, allocator, host, ("sync", "reconcile", "reports", "pulse")) as worker:
        await until(lambda: len(allocator.reports) == 2)
        assert host.led_to == {"prod": {ONE}, "plain": set()}
        before = worker.parts.sync.digest
        allocator.peers = (ONE, TWO)
        worker.parts.sync.wake()
        await until(lambda: host.led_to["prod"] == {ONE, TWO})
        await until(lambda: worker.parts.sync.digest != before)
    assert [report.network for report in allocator.reports] == ["plain", "prod"], "nothing to report anew"


async def test_a_network_is_removed_as_soon_as_its_last_pod_is_gone(
    path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_PAUSE_S", (30.0, 30.0))  # no try but the one that is asked for
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL) as worker:
        await worker.handlers.add(call())
        allocator.networks["prod"] = absent(version=2)
        worker.parts.sync.wake()
        await until(lambda: [report.result for report in allocator.reports][-1:] == ["error"])
        await worker.handlers.delete(call("DEL"))
        await until(lambda: [report.result for report in allocator.reports][-1:] == ["removed"])
    assert host.networks == {}


async def test_a_network_whose_pods_the_allocator_ended_is_removed_at_once(
    path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_PAUSE_S", (30.0, 30.0))
    allocator = FakeAllocator(present())
    async with node(path, allocator, host, ALL) as worker:
        await worker.handlers.add(call())
        allocator.networks["prod"] = absent(version=2)
        worker.parts.sync.wake()
        await until(lambda: [report.result for report in allocator.reports][-1:] == ["error"])
        (attachment,) = allocator.attachments
        allocator.attachments.clear()
        allocator.ended.add(attachment)
        worker.reconcile.wake()
        await until(lambda: [report.result for report in allocator.reports][-1:] == ["removed"])
    assert (host.networks, host.endpoints) == ({}, {})


async def test_a_network_that_makes_no_interfaces_is_not_attached_to(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present(driver={"type": "ipam"}))
    async with node(path, allocator, host, ("sync", "reconcile")) as worker:
        with pytest.raises(ServiceError, match="makes no interfaces") as refused:
            await worker.handlers.add(call())
    assert refused.value.code == Code.NETWORK_UNSUITABLE
    assert allocator.attachments == {}
