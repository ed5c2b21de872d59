"""Another plugin makes the interface and asks us for addresses alone (`"ipam": {"type": "moorage"}`)."""

import json
from pathlib import Path
from typing import Any

import pytest

from cni.errors import CniError
from cni.netconf import read_configuration
from cni.result import render
from node_worker import attachments
from node_worker.attachments import State
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator
from tests.node_fakes import FakeHost, all_released, call, node, refused, rows, wiring

MACVLAN = {
    "cniVersion": "1.0.0",
    "name": "lan",
    "type": "macvlan",
    "master": "eth1",
    "ipam": {"type": "moorage", "network": "prod", "pool": "web"},
}


def read(**changed: Any) -> Any:
    return read_configuration(json.dumps(MACVLAN | changed).encode())


def delegated(command: str = "ADD", container: str = "c1", pod: str = "web-0", **keys: Any) -> Any:
    return call(command, container, pod, conf_name="lan", delegated=True, **keys)


def test_our_part_of_another_plugins_configuration_is_in_its_ipam() -> None:
    conf = read()
    assert (conf.delegated, conf.network, conf.pool, conf.name) == (True, "prod", "web", "lan")
    # What stands beside it is the other plugin's, whatever it is called.
    conf = read(network="other", pool="db", delegated=False)
    assert (conf.delegated, conf.network, conf.pool) == (True, "prod", "web")


def test_a_configuration_of_our_own_delegates_nothing() -> None:
    own = {"cniVersion": "1.0.0", "name": "pods", "type": "moorage", "network": "prod"}
    assert not read_configuration(json.dumps(own | {"delegated": True, "ipam": {}}).encode()).delegated
    for ipam in ({"type": "host-local"}, {"type": "moorage", "network": "prod"}):
        with pytest.raises(CniError, match="leave ipam out") as caught:
            read_configuration(json.dumps(own | {"ipam": ipam}).encode())
        assert caught.value.code == 7


def test_ipam_must_name_a_network() -> None:
    with pytest.raises(CniError, match='"network" is missing') as caught:
        read(ipam={"type": "moorage"})
    assert caught.value.code == 7
    with pytest.raises(CniError):
        read(ipam={"type": "moorage", "network": 7})


async def test_addresses_alone_are_given_though_the_interface_is_there(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    host.foreign.add(("/run/netns/c1", "eth0"))
    async with node(path, allocator, host) as worker:
        answer = render(await worker.handlers.add(delegated()), "1.0.0")
        (row,) = await rows(worker)
    assert (row.driver, row.state) == ("ipam", State.ATTACHED)
    assert "interfaces" not in answer
    assert answer["ips"][0]["address"].startswith("10.20.0.")
    assert "interface" not in answer["ips"][0]
    assert answer["routes"][0]["dst"] == "0.0.0.0/0"


async def test_a_repeated_call_gets_the_same_answer(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        first = await worker.handlers.add(delegated())
        (row,) = await rows(worker)
        assert (await worker.handlers.add(delegated())).ips == first.ips
        assert [again.attachment_id for again in await rows(worker)] == [row.attachment_id]
        # In another namespace it is another pod of the same container: the old one has ended.
        await worker.handlers.add(delegated(netns="/run/netns/elsewhere"))
        (other,) = await rows(worker)
        await all_released(worker)
    assert other.attachment_id != row.attachment_id
    assert list(allocator.attachments) == [other.attachment_id]


async def test_a_del_takes_the_interface_off_the_network_before_its_address_is_released(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(delegated())
        (row,) = await rows(worker)
        was_cut: list[bool] = []
        allocator.hooks["address.release"] = lambda _: was_cut.append(row.host_link in host.cut_links)
        await worker.handlers.delete(delegated("DEL"))
        await all_released(worker)
        assert await rows(worker) == []
    assert was_cut == [True]


async def test_a_successor_on_the_node_silences_the_old_pod_first(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(delegated(container="old"))
        host.steps.clear()
        await worker.handlers.add(delegated(container="new"))
        assert [row.container_id for row in await rows(worker)] == ["new"]
    assert wiring(host) == ["open_pod", "cut", "detach", "attach"]


async def test_check_looks_at_the_addresses_and_leaves_mac_and_routes_to_the_other_plugin(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        given = await worker.handlers.add(delegated())
        before = {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:77", "sandbox": "/run/netns/c1"}],
            "ips": [{"address": str(given.ips[0].address), "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.20.0.1"}],
        }
        host.damage = {"mac": "02:00:00:00:00:77", "routes": ()}
        await worker.handlers.check(delegated("CHECK", prevResult=before))
        host.damage["addresses"] = ()
        with pytest.raises(ServiceError, match="has no address") as caught:
            await worker.handlers.check(delegated("CHECK", prevResult=before))
    assert caught.value.code == Code.ENDPOINT_BROKEN


async def test_one_that_cannot_be_silenced_keeps_its_address(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(delegated())
        host.fail["cut"] = refused()
        with pytest.raises(ServiceError):
            await worker.handlers.delete(delegated("DEL"))
        assert await worker.parts.journal.run(attachments.owed) == []
        assert len(allocator.attachments) == 1
