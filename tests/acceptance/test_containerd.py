"""Pods that a real containerd runs over CRI, as it does for a kubelet, on two nodes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from schemas.address import AddressList, AddressPage, AddressShow, AddressView
from tests.acceptance.containerd import PAUSE, Containerd, containerd_on
from tests.acceptance.hosts import links
from tests.acceptance.machines import Machine, machine_of, until
from tests.acceptance.programs import compile_program, image_of

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("containerd"),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    with machine_of(tmp_path_factory.mktemp("c"), shim) as running:
        running.network("other", "10.91.0.0/24")
        running.pool("prod", "one", ["10.77.0.30"], ["shop/one-*"])
        yield running


@pytest.fixture(scope="module")
def nodes(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Containerd]]:
    folder = tmp_path_factory.mktemp("d")
    image = image_of(compile_program("sleeper", folder), PAUSE)
    with (
        containerd_on(machine.node("node-1"), machine.shim, folder / "1", image) as first,
        containerd_on(machine.node("node-2"), machine.shim, folder / "2", image) as second,
    ):
        yield [first, second]


@pytest.fixture(scope="module")
def bare(nodes: list[Containerd]) -> dict[str, set[str]]:
    """The links of each host without pods."""
    return {node.node.name: links(node.host) for node in nodes}


@pytest.fixture
def containerd(nodes: list[Containerd], bare: dict[str, set[str]]) -> Iterator[Containerd]:
    """The first node's. No test leaves a sandbox, or a link of one, on either."""
    yield nodes[0]
    for node in nodes:
        node.empty()
    assert {node.node.name: links(node.host) for node in nodes} == bare


def shown(machine: Machine, address: str, network: str = "prod") -> AddressView:
    return machine.ask(AddressShow.model_validate({"network": network, "address": address}), AddressView)


def attached(machine: Machine, owner: str) -> list[AddressView]:
    query = AddressList.model_validate({"network": "prod", "owner": owner, "state": "attached"})
    return list(machine.ask(query, AddressPage).addresses)


def listed(machine: Machine, owner: str) -> list[str]:
    """What `moorage address list` shows of an owner's attached addresses."""
    done = machine.command("address", "list", "prod", "--state", "attached", "--output", "json")
    assert done.returncode == 0, done.stderr
    return [a["address"] for a in json.loads(done.stdout)["addresses"] if a["owner"] == owner]


def test_a_pod_that_is_run_again_keeps_its_ip_and_mac(machine: Machine, containerd: Containerd):
    first = containerd.run("shop/web-0")
    ip, interface = first.ip, first.interface()
    assert interface[0] == [f"{ip}/24"]
    assert listed(machine, "shop/web-0") == [ip]
    first.end()
    until(lambda: shown(machine, ip).state == "waiting")
    second = containerd.run("shop/web-0")
    assert second.id != first.id
    assert (second.ip, second.interface()) == (ip, interface)
    assert listed(machine, "shop/web-0") == [ip]


def test_annotations_choose_network_pool_and_address(machine: Machine, containerd: Containerd):
    chosen = containerd.run("shop/web-1", ip="10.77.0.17")
    assert chosen.ip == "10.77.0.17"
    pooled = containerd.run("shop/one-0", pool="one")
    assert (pooled.ip, shown(machine, pooled.ip).pool) == ("10.77.0.30", "one")
    elsewhere = containerd.run("bank/api-0", network="other")
    ip = elsewhere.ip
    assert ip.startswith("10.91.0.")
    elsewhere.end()
    until(lambda: shown(machine, ip, "other").state == "free")


def test_a_pod_that_may_not_use_the_pool_is_refused_with_the_reason_and_leaves_nothing(
    machine: Machine, containerd: Containerd, bare: dict[str, set[str]]
):
    with pytest.raises(grpc.RpcError) as refused:
        containerd.run("bank/api-1", pool="web")
    assert "bank/api-1" in refused.value.details()
    assert "owner_forbidden" in refused.value.details()
    assert containerd.cri.sandboxes() == []
    until(lambda: not attached(machine, "bank/api-1"))
    assert links(containerd.host) == bare["node-1"]


def test_stopping_and_removing_may_be_repeated(machine: Machine, containerd: Containerd):
    pod = containerd.run("shop/web-2")
    netns = str(pod.netns)
    pod.stop()
    pod.stop()
    pod.remove()
    pod.remove()
    until(lambda: not attached(machine, "shop/web-2"))
    calls = [(call.command, call.netns) for call in containerd.plugins.calls(pod.id)]
    assert calls[:3] == [("ADD", netns), ("DEL", netns), ("DEL", "")]


@pytest.mark.parametrize(
    ("holder", "refused", "wish", "code"),
    [
        ("shop/one-0", "shop/one-1", {}, "exhausted"),
        ("shop/web-8", "shop/web-9", {"ip": "10.77.0.18"}, "address_in_use"),
    ],
)
def test_a_failed_add_and_the_runtimes_own_del_leave_nothing(
    machine: Machine, containerd: Containerd, holder: str, refused: str, wish: dict[str, str], code: str
):
    held = containerd.run(holder, **wish)
    before = links(containerd.host)
    with pytest.raises(grpc.RpcError) as failure:
        containerd.run(refused, **wish)
    assert code in failure.value.details()
    failed = containerd.plugins.calls()[-1].container_id
    assert [call.command for call in containerd.plugins.calls(failed)] == ["ADD", "DEL"]
    until(lambda: not attached(machine, refused))
    assert links(containerd.host) == before
    assert containerd.cri.sandboxes() == [held.id]


def test_a_pod_whose_sandbox_died_comes_back_with_its_address(machine: Machine, containerd: Containerd):
    died = containerd.run("shop/web-3")
    ip, interface = died.ip, died.interface()
    os.kill(died.pid, signal.SIGKILL)
    until(lambda: not died.ready)
    died.end()
    again = containerd.run("shop/web-3")
    assert (again.ip, again.interface()) == (ip, interface)


def test_pods_outlive_a_killed_containerd_and_can_be_stopped_afterwards(
    machine: Machine, containerd: Containerd
):
    pod, peer = containerd.run("shop/web-4"), containerd.run("shop/web-5")
    ip, interface = pod.ip, pod.interface()
    calls = containerd.plugins.calls()
    containerd.process.kill()
    assert pod.interface() == interface
    assert peer.reaches(ip)
    containerd.start()
    assert pod.ready
    assert pod.ip == ip
    assert peer.reaches(ip)
    assert shown(machine, ip).container_id == pod.id
    assert containerd.plugins.calls() == calls
    pod.end()
    until(lambda: shown(machine, ip).state == "waiting")
    assert not peer.reaches(ip)


def test_a_pod_that_moves_keeps_its_address_and_the_old_nodes_late_calls_harm_nobody(
    machine: Machine, containerd: Containerd, nodes: list[Containerd]
):
    old, peer = containerd.run("shop/web-6"), containerd.run("shop/web-7")
    ip, interface = old.ip, old.interface()
    assert peer.reaches(ip)
    with pytest.raises(grpc.RpcError) as refused:
        nodes[1].run("shop/web-6")
    assert "node-1" in refused.value.details()
    assert "owner_attached_elsewhere" in refused.value.details()
    assert peer.reaches(ip)
    old.stop()
    new = nodes[1].run("shop/web-6")
    assert (new.ip, new.interface()) == (ip, interface)
    old.stop()
    old.remove()
    deleted = [call.command for call in containerd.plugins.calls(old.id)]
    assert deleted[:3] == ["ADD", "DEL", "DEL"]
    assert (shown(machine, ip).node, shown(machine, ip).container_id) == ("node-2", new.id)
    assert peer.reaches(ip)


def test_a_pod_is_stopped_while_the_broker_is_away_and_its_address_released_later(
    machine: Machine, containerd: Containerd
):
    local = machine.stack.servers.local
    assert local is not None
    pod = containerd.run("shop/web-8")
    ip = pod.ip
    local.rabbitmq.kill()
    try:
        pod.end()
    finally:
        local.rabbitmq.start()
    until(lambda: shown(machine, ip).state == "waiting", 60)
    machine.wait_for_nodes()
