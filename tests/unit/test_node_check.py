"""CHECK and STATUS against a fake allocator and a fake host."""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.errors import CniError, from_service_error
from cni.result import render
from node_worker.checking import Found, complain, expected
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator, present
from tests.node_fakes import FakeHost, call, node, rows


@pytest.fixture
async def worker(tmp_path: Path, host: FakeHost) -> AsyncIterator[Any]:
    async with node(tmp_path / "journal.sqlite", FakeAllocator(present()), host) as made:
        yield made


async def attached(worker: Any, **env: Any) -> dict[str, Any]:
    """The prevResult of a pod that was attached."""
    return render(await worker.handlers.add(call(**env)), "1.1.0")


async def broken(worker: Any, previous: dict[str, Any]) -> list[str]:
    with pytest.raises(ServiceError) as caught:
        await worker.handlers.check(call("CHECK", prevResult=previous))
    assert caught.value.code == Code.ENDPOINT_BROKEN
    return list(caught.value.fields["faults"])


async def test_what_is_as_it_was_attached_passes(worker: Any) -> None:
    previous = await attached(worker)
    await worker.handlers.check(call("CHECK", prevResult=previous))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ({"host_link": False}, "is gone"),
        ({"host_up": False}, "is down"),
        ({"bridge": None}, "is no port of bridge mo-prod"),
        ({"bridge": "docker0"}, "is no port of bridge mo-prod"),
        ({"mac": None}, "the pod has no interface eth0"),
        ({"up": False}, "eth0 is down"),
        ({"mac": "02:00:00:00:00:01"}, "eth0 has MAC 02:00:00:00:00:01, not 0a:58:"),
        ({"addresses": ()}, "eth0 has no address"),
        ({"routes": ()}, "there is no route 0.0.0.0/0 via"),
    ],
)
async def test_each_part_that_is_not_as_it_was_is_named(
    worker: Any, host: FakeHost, damage: dict[str, Any], fault: str
) -> None:
    previous = await attached(worker)
    host.damage = damage
    (told,) = await broken(worker, previous)
    assert fault in told


async def test_all_that_is_wrong_is_told_at_once(worker: Any, host: FakeHost) -> None:
    previous = await attached(worker)
    host.damage = {"host_up": False, "up": False, "addresses": ()}
    assert len(await broken(worker, previous)) == 3


async def test_what_a_later_plugin_changed_and_said_so_is_as_it_should_be(
    worker: Any, host: FakeHost
) -> None:
    previous = await attached(worker)
    previous["interfaces"][1]["mac"] = "02:00:00:00:00:01"
    previous["routes"] = []
    host.damage = {"mac": "02:00:00:00:00:01", "routes": ()}
    await worker.handlers.check(call("CHECK", prevResult=previous))


async def test_what_other_plugins_added_is_not_ours_to_check(worker: Any) -> None:
    previous = await attached(worker)
    previous["interfaces"].insert(0, {"name": "dummy0", "mac": "02:00:00:00:00:02"})
    for ip in previous["ips"]:
        ip["interface"] += 1
    previous["ips"].append({"address": "192.0.2.1/24", "interface": 0})
    previous["routes"].append({"dst": "192.0.2.0/24", "gw": "198.51.100.1"})
    await worker.handlers.check(call("CHECK", prevResult=previous))


@pytest.mark.parametrize(
    "previous",
    [
        None,
        {},
        {"ips": []},
        {"interfaces": [{"name": "eth0", "sandbox": "/x", "mac": 7}], "ips": [{"address": 7}]},
        {"interfaces": [{}], "ips": [{}]},
        {"ips": [{"address": "10.20.0.250/24"}]},
        {"ips": [{"address": "10.20.0.1/24"}], "routes": [{"dst": "nowhere", "gw": "10.20.0.1"}]},
    ],
)
async def test_a_prev_result_that_is_not_this_attachments_is_code_7(worker: Any, previous: Any) -> None:
    await attached(worker)
    with pytest.raises(CniError) as caught:
        await worker.handlers.check(call("CHECK", prevResult=previous))
    assert caught.value.code == 7
    assert "prevResult" in caught.value.msg


async def test_what_is_not_attached_here_is_told_so(worker: Any) -> None:
    previous = await attached(worker)
    await worker.handlers.delete(call("DEL"))
    with pytest.raises(ServiceError) as caught:
        await worker.handlers.check(call("CHECK", prevResult=previous))
    assert caught.value.code == Code.ATTACHMENT_RELEASED


async def test_both_families_are_checked(worker: Any) -> None:
    await attached(worker)
    (row,) = await rows(worker)
    both = replace(row, addresses=(ip_interface("10.20.0.5/24"), ip_interface("fd00::5/64")))
    routes = ((ip_network("0.0.0.0/0"), ip_address("10.20.0.1")), (ip_network("::/0"), ip_address("fd00::1")))
    previous = {
        "interfaces": [{"name": "eth0", "sandbox": "/x", "mac": "0A:58:0A:14:00:05"}],
        "ips": [
            {"address": "10.20.0.5/24", "gateway": "10.20.0.1"},
            {"address": "fd00::5/64", "gateway": "fd00::1", "interface": 0},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.20.0.1"}, {"dst": "::/0", "gw": "fd00::1"}],
    }
    found = Found("0a:58:0a:14:00:05", True, both.addresses, routes, True, True, both.bridge)
    complain(both, expected(previous, both), found)
    with pytest.raises(ServiceError, match="no route ::/0 via fd00::1"):
        complain(both, expected(previous, both), replace(found, routes=routes[:1]))


async def test_status_is_well_where_add_would_be_served(worker: Any) -> None:
    worker.parts.clock.tell("2026-01-01T00:00:00Z")
    await worker.handlers.status(call("STATUS", ""))


async def test_status_is_code_50_where_the_journal_cannot_be_written(worker: Any) -> None:
    worker.parts.clock.tell("2026-01-01T00:00:00Z")
    journal = worker.parts.journal
    journal._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(ServiceError) as refused:
        await worker.handlers.delete(call("DEL"))
    assert from_service_error(refused.value).code == 5
    with pytest.raises(CniError, match="make room on its disk") as caught:
        await worker.handlers.status(call("STATUS", ""))
    assert (caught.value.code, caught.value.details) == (50, "io_failure")
    assert await worker.reconcile.digest() is None
    journal._connection.execute("PRAGMA query_only = OFF")
    assert await worker.reconcile.digest()
    await worker.handlers.status(call("STATUS", ""))


async def test_status_is_code_50_where_add_would_be_refused(worker: Any) -> None:
    with pytest.raises(CniError, match="there is no network nowhere") as caught:
        await worker.handlers.status(call("STATUS", "", network="nowhere"))
    assert (caught.value.code, caught.value.details) == (50, "network_unknown")
    worker.parts.gate.close()
    with pytest.raises(CniError, match="which of its attachments still count") as caught:
        await worker.handlers.status(call("STATUS", ""))
    assert caught.value.code == 50
    worker.parts.pulse._missed = 2
    with pytest.raises(CniError, match="does not reach the allocator") as caught:
        await worker.handlers.status(call("STATUS", ""))
    assert caught.value.code == 50
