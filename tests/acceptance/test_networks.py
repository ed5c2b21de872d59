"""Networks on every node through every real part: made, kept, mended and taken away while parts fail."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from compose.hosts import UPLINK, prefix_of
from node_worker.netlink import simulated
from schemas.errors import ServiceError
from schemas.history import HistoryList, HistoryPage
from schemas.network import NetworkCreate, NetworkShow, NetworkView
from tests.acceptance.machines import Machine, Pod, machine_of, until

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("networks"),
]

NODES = ("node-1", "node-2", "node-3")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    with machine_of(tmp_path_factory.mktemp("n"), shim, nodes=3, uplink=None) as running:
        yield running


def asked(name: str, cidr: str, **more: Any) -> NetworkCreate:
    body = {"request_id": uuid.uuid4().hex, "network": name, "subnets": [{"cidr": cidr}]}
    return NetworkCreate.model_validate(body | more)


def shown(machine: Machine, network: str) -> NetworkView:
    return machine.ask(NetworkShow(network=network), NetworkView)


def states(view: NetworkView) -> dict[str, str]:
    return {result.node: result.state for result in view.nodes}


def addresses_of(answer: dict[str, Any]) -> list[str]:
    return [item["address"].split("/")[0] for item in answer["ips"]]


def test_pods_of_three_nodes_reach_one_another_through_tunnels_and_when_they_move(machine: Machine):
    words = ("--subnet", "10.81.0.0/24", "--subnet", "fd00:81::/64")
    done = machine.command("network", "create", "tunnels", "--driver", "vxlan", "--vni", "81", *words)
    assert done.returncode == 0, done.stderr
    pods = {
        f"bank/api-{number}": Pod(machine, f"bank/api-{number}", NODES[number % 3], "tunnels")
        for number in range(6)
    }
    given = {owner: addresses_of(pod.add()) for owner, pod in pods.items()}
    for one, other in permutations(pods, 2):
        for address in given[other]:
            assert pods[one].reaches(address), f"{one} does not reach {other} at {address}"
    pods["bank/api-0"].delete()
    moved = Pod(machine, "bank/api-0", "node-2", "tunnels")
    (address, _) = addresses_of(moved.add())
    assert all(pods[owner].reaches(address) for owner in list(pods)[1:])
    for pod in (moved, *list(pods.values())[1:]):
        pod.delete()


def test_pods_beside_the_nodes_interface_reach_those_of_other_nodes(machine: Machine):
    words = ("--driver", "macvlan", "--parent", UPLINK, "--subnet", "10.82.0.0/24")
    done = machine.command("network", "create", "beside", *words)
    assert done.returncode == 0, done.stderr
    pods = [Pod(machine, f"bank/side-{number}", NODES[number], "beside") for number in range(3)]
    answers = [pod.add() for pod in pods]
    given = [addresses_of(answer)[0] for answer in answers]
    assert pods[0].reaches(given[1])
    assert pods[2].reaches(given[0])
    assert pods[0].call("CHECK", {"prevResult": answers[0]}) == (0, {})
    pods[1].run("ip", "address", "flush", "dev", "eth0")
    status, answer = pods[1].call("CHECK", {"prevResult": answers[1]})
    assert (status, answer["details"]) == (1, "endpoint_broken")
    for pod in pods:
        pod.delete()
        assert "eth0" not in pod.links()
    until(lambda: machine.command("network", "delete", "beside", "--yes").returncode == 0)


def test_a_node_that_is_down_gets_the_network_when_it_returns(machine: Machine):
    away = machine.node("node-3")
    away.process.kill()
    view = machine.ask(asked("kept", "10.83.0.0/24", keep_going=True, deadline_s=2), NetworkView)
    assert states(view) == {"node-1": "ready", "node-2": "ready", "node-3": "error"}
    (error,) = [result.error for result in view.nodes if result.error is not None]
    assert error.code == "timeout"
    Pod(machine, "bank/kept-0", "node-1", "kept").add()
    away.process.start()
    until(lambda: set(states(shown(machine, "kept")).values()) == {"ready"})
    Pod(machine, "bank/kept-1", "node-3", "kept").add()


def test_an_allocator_killed_in_mid_rollout_is_followed_by_one_that_answers_who_waits(machine: Machine):
    away = machine.node("node-3")
    away.process.kill()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(
            machine.ask, asked("resumed", "10.84.0.0/24", deadline_s=60), NetworkView, 90
        )
        until(lambda: made_by(machine, "resumed") == 2)
        machine.stack.allocator.kill()
        machine.stack.allocator.start()
        away.process.start()
        view = waiting.result(90)
    assert (view.state, set(states(view).values()), len(view.nodes)) == ("active", {"ready"}, 3)


def made_by(machine: Machine, network: str) -> int:
    try:
        return list(states(shown(machine, network)).values()).count("ready")
    except ServiceError:
        return 0


def test_a_network_in_use_is_deleted_by_force_alone_and_its_name_is_free_again(machine: Machine):
    machine.network("used", "10.85.0.0/24")
    pod = Pod(machine, "bank/used-0", "node-2", "used")
    pod.add()
    refused = machine.command("network", "delete", "used", "--yes", "--output", "json")
    assert refused.returncode == 1
    error = json.loads(refused.stdout or refused.stderr)
    assert "network_in_use" in json.dumps(error)
    assert "bank/used-0" in json.dumps(error)
    assert pod.links().count("eth0") > 0
    forced = machine.command("network", "delete", "used", "--yes", "--force", "--reason", "the tenant left")
    assert forced.returncode == 0, forced.stderr
    until(lambda: "eth0" not in pod.links())
    query = HistoryList.model_validate({"network": "used", "owner": "bank/used-0"})
    rows = machine.ask(query, HistoryPage).rows
    assert [row.event for row in rows] == ["address.attached", "address.freed"]
    assert rows[-1].details["reason"] == "the tenant left"
    pod.delete()
    for node in machine.stack.nodes:
        assert "mo-used" not in Pod.on_node(node, "ip", "-o", "link")
    machine.network("used", "10.86.0.0/24")
    again = Pod(machine, "bank/used-0", "node-2", "used")
    assert addresses_of(again.add())[0].startswith("10.86.0.")


def test_a_bridge_deleted_by_hand_is_back_with_its_pods(machine: Machine):
    one, other = (Pod(machine, f"shop/web-{number}", "node-1") for number in (0, 1))
    one.add()
    address = addresses_of(other.add())[0]
    one.on_host("ip", "link", "delete", "mo-prod")
    until(lambda: one.reaches(address))


def test_an_address_that_a_foreign_host_answers_for_is_withheld_and_another_one_given(machine: Machine):
    words = ("--driver", "macvlan", "--parent", UPLINK, "--subnet", "10.88.0.0/24")
    assert machine.command("network", "create", "probed", *words).returncode == 0
    underlay = f"{prefix_of(machine.stack.state_dir)}-underlay"
    inside = ["nsenter", f"--net={simulated.netns_path(underlay)}", "ip", "address"]
    subprocess.run([*inside, "add", "10.88.0.1/24", "dev", "switch"], check=True)
    pod = Pod(machine, "bank/probed-0", "node-1", "probed")
    assert addresses_of(pod.add()) == ["10.88.0.2"]
    query = HistoryList.model_validate({"network": "probed", "address": "10.88.0.1"})
    rows = machine.ask(query, HistoryPage).rows
    assert [row.event for row in rows] == ["address.attached", "address.quarantined"]
    assert "answered for 10.88.0.1 on node node-1" in rows[-1].details["reason"]
    subprocess.run([*inside, "flush", "dev", "switch"], check=True)
    released = machine.command("address", "release", "probed", "10.88.0.1", "--reason", "it left", "--yes")
    assert released.returncode == 0, released.stderr
    pod.delete()


def test_a_pod_of_a_node_that_is_cut_off_is_withheld_elsewhere_until_that_is_fenced(machine: Machine):
    away, owner = machine.node("node-1"), "shop/web-7"
    old = Pod(machine, owner, "node-1")
    address = addresses_of(old.add())[0]
    away.process.kill()
    new = Pod(machine, owner, "node-2")
    status, answer = new.call("ADD")
    assert (status, answer["code"], answer["details"]) == (1, 11, "owner_attached_elsewhere")
    fenced = machine.command("node", "fence", "node-1", "--reason", "its power is cut", "--yes")
    assert fenced.returncode == 0, fenced.stderr
    assert addresses_of(new.add())[0] == address
    assert address in old.links()
    away.process.start()
    until(lambda: address not in old.links())
    until(lambda: Pod(machine, "shop/web-8", "node-1").call("ADD")[0] == 0)


def test_a_kernel_without_a_driver_is_named_for_each_node(machine: Machine):
    if knows(machine, "ipvlan"):
        pytest.skip("this kernel has ipvlan, which other tests try then")
    words = ("--driver", "ipvlan", "--parent", UPLINK, "--subnet", "10.87.0.0/24")
    done = machine.command("network", "create", "lacking", *words)
    assert done.returncode == 1
    assert "ipvlan" in done.stderr
    for node in NODES:
        assert node in done.stderr


def knows(machine: Machine, kind: str) -> bool:
    """Whether this kernel has links of that kind."""
    node = machine.stack.nodes[0]
    Pod.on_node(node, "ip", "link", "add", "motest", "link", UPLINK, "type", kind)
    there = "motest" in Pod.on_node(node, "ip", "-o", "link")
    Pod.on_node(node, "ip", "link", "delete", "motest")
    return there
