"""The main job through every real part: shim, node worker, RabbitMQ, allocator, MariaDB, kernel."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compose.hosts import UPLINK
from schemas.address import AddressList, AddressPage, AddressShow, AddressView
from schemas.errors import ServiceError
from schemas.history import HistoryList, HistoryPage
from schemas.network import NetworkList, NetworkPage
from tests.acceptance.machines import Machine, Pod, machine_of, until

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("main-path"),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    with machine_of(tmp_path_factory.mktemp("m"), shim) as running:
        yield running


def address_of(answer: dict[str, object]) -> str:
    return str(answer["ips"][0]["address"]).split("/")[0]  # type: ignore[index]


def mac_of(answer: dict[str, object]) -> str:
    return next(i["mac"] for i in answer["interfaces"] if i.get("sandbox"))  # type: ignore[attr-defined,union-attr]


def shown(machine: Machine, address: str) -> AddressView:
    return machine.ask(AddressShow.model_validate({"network": "prod", "address": address}), AddressView)


def test_a_pod_keeps_its_ip_and_mac_on_another_node_and_its_late_del_harms_nobody(machine: Machine):
    peer = Pod(machine, "shop/web-9", "node-2")
    peer.add()
    old = Pod(machine, "shop/web-0", "node-1")
    first = old.add()
    assert peer.reaches(address_of(first))
    old.delete()
    new = Pod(machine, "shop/web-0", "node-2")
    second = new.add()
    assert (address_of(second), mac_of(second)) == (address_of(first), mac_of(first))
    assert mac_of(first) in new.links() or address_of(first) in new.links()
    old.delete()
    assert shown(machine, address_of(second)).node == "node-2"
    assert peer.reaches(address_of(second))
    new.delete()
    peer.delete()


def test_a_new_sandbox_on_the_same_node_takes_the_address_over(machine: Machine):
    old = Pod(machine, "shop/web-1", "node-1")
    first = old.add()
    new = Pod(machine, "shop/web-1", "node-1")
    second = new.add()
    assert address_of(second) == address_of(first)
    assert address_of(first) not in old.links()
    old.delete()
    assert shown(machine, address_of(second)).container_id == new.container_id
    new.delete()


def test_an_owner_attached_elsewhere_is_told_to_try_again(machine: Machine):
    held = Pod(machine, "shop/web-2", "node-1")
    held.add()
    status, answer = Pod(machine, "shop/web-2", "node-2").call("ADD")
    assert (status, answer["code"], answer["details"]) == (1, 11, "owner_attached_elsewhere")
    assert "node-1" in answer["msg"]
    held.delete()


def test_an_interface_that_exists_is_refused_and_left_alone(machine: Machine):
    pod = Pod(machine, "shop/web-3", "node-1")
    first = pod.add()
    status, answer = pod.call("ADD")
    assert status == 1
    assert answer["details"] == "interface_exists"
    assert address_of(first) in pod.links()
    pod.delete()


def test_an_owner_the_pool_does_not_allow_is_refused_with_its_code(machine: Machine):
    status, answer = Pod(machine, "bank/api-0", "node-1").call("ADD", {"pool": "web"})
    assert (status, answer["details"]) == (1, "owner_forbidden")
    assert answer["code"] >= 100


def test_bad_input_is_named(machine: Machine):
    pod = Pod(machine, "shop/web-4", "node-1")
    status, answer = pod.call("ADD", CNI_CONTAINERID="")
    assert (status, answer["code"]) == (1, 4)
    assert "CNI_CONTAINERID" in json.dumps(answer)
    status, answer = pod.call("ADD", {"network": "Not A Name"})
    assert (status, answer["code"]) == (1, 7)
    status, answer = pod.call("ADD", {"network": "nowhere"})
    assert (status, answer["details"]) == (1, "network_unknown")


def test_a_network_that_one_node_refuses_is_taken_back_and_the_answer_says_who_said_what(machine: Machine):
    with pytest.raises(ServiceError) as caught:
        machine.network("second", "10.78.0.0/24", uplink=UPLINK)
    assert caught.value.code == "rollout_failed"
    assert {n["error"]["code"] for n in caught.value.fields["nodes"]} == {"uplink_in_use"}
    names = [n.network for n in machine.ask(NetworkList(), NetworkPage).networks]
    assert "second" not in names
    machine.network("second", "10.78.0.0/24")


def test_many_pods_at_once_get_addresses_of_their_own(machine: Machine):
    machine.network("burst", "10.79.0.0/24")
    pods = [Pod(machine, f"bank/api-{i}", f"node-{1 + i % 2}", "burst") for i in range(12)]
    with ThreadPoolExecutor(12) as threads:
        given = [address_of(answer) for answer in threads.map(Pod.add, pods)]
        assert len(set(given)) == 12
        list(threads.map(Pod.delete, pods))
    until(lambda: not attached(machine, "burst"))


def attached(machine: Machine, network: str = "prod") -> list[AddressView]:
    query = AddressList.model_validate({"network": network, "state": "attached"})
    return list(machine.ask(query, AddressPage).addresses)


def test_an_allocator_killed_between_requests_loses_nothing(machine: Machine):
    pod = Pod(machine, "shop/web-5", "node-1")
    address = address_of(pod.add())
    machine.stack.allocator.kill()
    pod.delete()
    with ThreadPoolExecutor(1) as threads:
        coming = threads.submit(Pod(machine, "shop/web-6", "node-2").add)
        machine.stack.allocator.start()
        coming.result(60)
    until(lambda: shown(machine, address).state == "waiting")


def test_a_node_worker_that_is_killed_keeps_its_pods_and_takes_their_del(machine: Machine):
    pod, node = Pod(machine, "shop/web-7", "node-1"), machine.node("node-1")
    address = address_of(pod.add())
    node.process.kill()
    status, answer = Pod(machine, "shop/web-8", "node-1").call("ADD")
    assert (status, answer["code"]) == (1, 11)
    assert "moorage node" in answer["msg"]
    assert address in pod.links()
    node.process.start()
    until(lambda: pod.call("DEL")[0] == 0)
    until(lambda: shown(machine, address).state == "waiting")


def test_a_dead_letter_keeps_the_reason_and_the_allocator_goes_on(machine: Machine):
    pod = Pod(machine, "shop/web-8", "node-2")
    pod.add()
    pod.delete()
    rows = machine.ask(
        HistoryList.model_validate({"network": "prod", "owner": "shop/web-8"}), HistoryPage
    ).rows
    assert [row.event for row in rows] == ["address.attached", "address.waiting"]
    assert {row.user_id for row in rows} == {"node.node-2"}


def test_the_command_line_shows_what_there_is_as_table_and_json(machine: Machine):
    for words in (
        ["network", "list"],
        ["pool", "list", "prod"],
        ["address", "list", "prod"],
        ["node", "list"],
    ):
        table, as_json = machine.command(*words), machine.command(*words, "--output", "json")
        assert (table.returncode, as_json.returncode) == (0, 0), table.stderr + as_json.stderr
        assert table.stdout.strip()
        json.loads(as_json.stdout)
    made = machine.command("network", "create", "from-cli", "--subnet", "10.80.0.0/24,gateway=10.80.0.1")
    assert made.returncode == 0, made.stderr
    again = machine.command("network", "create", "from-cli", "--subnet", "10.81.0.0/24")
    assert again.returncode == 1
    assert "exists with another definition" in again.stderr


def test_a_broker_that_is_away_gives_11_and_all_goes_on_by_itself(machine: Machine):
    local = machine.stack.servers.local
    assert local is not None
    pod = Pod(machine, "shop/web-0", "node-1")
    address = address_of(pod.add())
    local.rabbitmq.kill()
    pod.delete()
    status, answer = Pod(machine, "shop/web-1", "node-2").call("ADD")
    assert (status, answer["code"]) == (1, 11)
    local.rabbitmq.start()
    until(lambda: shown(machine, address).state == "waiting", 60)
    later = Pod(machine, "shop/web-1", "node-2")
    until(lambda: later.call("ADD")[0] == 0, 60)
    later.delete()


def test_a_database_that_is_away_gives_11_and_all_goes_on_by_itself(machine: Machine):
    local = machine.stack.servers.local
    assert local is not None
    pod = Pod(machine, "shop/web-0", "node-1")
    address = address_of(pod.add())
    local.mariadb.kill()
    pod.delete()
    status, answer = Pod(machine, "shop/web-1", "node-2").call("ADD")
    assert (status, answer["code"]) == (1, 11)
    local.mariadb.start()
    until(lambda: shown(machine, address).state == "waiting", 60)
    later = Pod(machine, "shop/web-1", "node-2")
    until(lambda: later.call("ADD")[0] == 0, 60)
    later.delete()
