"""CHECK against a real kernel: what it finds, what is not its business; and STATUS, which stops nobody."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from node_worker.netlink import simulated
from tests.acceptance.machines import Machine, Pod
from tests.acceptance.runtime_calls import NO_CONTAINER, interfaces_in, routed_network

NETWORK = "checked"
pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("cni-spec"),
]


@pytest.fixture(scope="module")
def machine(one_node: Machine) -> Machine:
    routed_network(one_node, NETWORK, "10.96.0.1/24", "fd00:97::1/64")
    return one_node


@pytest.fixture
def pod(machine: Machine) -> Iterator[Pod]:
    made = Pod(machine, f"bank/api-{uuid.uuid4().hex[:6]}", "node-1", NETWORK)
    yield made
    made.delete()
    assert interfaces_in(made) == set()


def check(pod: Pod, previous: dict[str, Any], **env: str) -> tuple[int, dict[str, Any]]:
    return pod.call("CHECK", {"prevResult": previous}, **env)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (["host", "link", "set", "HOST", "down"], "the host's end HOST is down"),
        (["host", "link", "set", "HOST", "nomaster"], "HOST is no port of bridge mo-checked"),
        (["host", "link", "delete", "HOST"], "the host's end HOST is gone"),
        (["pod", "link", "delete", "eth0"], "the pod has no interface eth0"),
        (["pod", "link", "set", "eth0", "down"], "eth0 is down"),
        (["pod", "link", "set", "eth0", "address", "02:00:00:00:00:01"], "eth0 has MAC 02:00:00:00:00:01"),
        (["pod", "-4", "address", "flush", "dev", "eth0"], "eth0 has no address 10.96.0."),
        (["pod", "-6", "address", "flush", "dev", "eth0"], "eth0 has no address fd00:97::"),
        (["pod", "-4", "route", "delete", "default"], "there is no route 0.0.0.0/0 via 10.96.0.1"),
        (["pod", "-6", "route", "delete", "default"], "there is no route ::/0 via fd00:97::1"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_check_names_what_is_missing_or_cuts_the_pod_off(pod: Pod, damage: list[str], fault: str):
    result = pod.add()
    link = result["interfaces"][0]["name"]
    where, *words = [word.replace("HOST", link) for word in damage]
    done = (pod.on_host if where == "host" else pod.run)("ip", *words)
    assert done.returncode == 0, done.stderr
    status, answer = check(pod, result)
    assert (status, answer["code"], answer["details"]) == (1, 117, "endpoint_broken")
    assert fault.replace("HOST", link) in answer["msg"]


def test_a_check_does_not_mind_what_others_put_beside_it(pod: Pod):
    result = pod.add()
    for words in (
        ["address", "add", "192.0.2.9/32", "dev", "eth0"],
        ["route", "add", "198.51.100.0/24", "via", "10.96.0.1"],
        ["link", "add", "other0", "type", "bridge"],
    ):
        assert pod.run("ip", *words).returncode == 0
    assert check(pod, result) == (0, {})
    assert pod.run("ip", "link", "delete", "other0").returncode == 0


def test_a_check_asks_for_no_more_than_prev_result_says(pod: Pod):
    """A plugin after ours took the routes away, and said so."""
    result = pod.add()
    for family in ("-4", "-6"):
        assert pod.run("ip", family, "route", "delete", "default").returncode == 0
    assert check(pod, result | {"routes": []}) == (0, {})
    assert check(pod, result)[0] == 1


@pytest.mark.parametrize("previous", [None, {}, {"ips": []}, {"ips": [{"address": "10.96.0.250/24"}]}])
def test_a_check_without_this_pods_prev_result_is_code_7(pod: Pod, previous: dict[str, Any] | None):
    pod.add()
    status, answer = pod.call("CHECK", {"prevResult": previous})
    assert (status, answer["code"]) == (1, 7)
    assert "prevResult" in answer["msg"]


def test_a_check_of_what_was_never_added_or_in_another_namespace_fails(machine: Machine, pod: Pod):
    result = pod.add()
    stranger = Pod(machine, "bank/stranger-0", "node-1", NETWORK)
    status, answer = stranger.call("CHECK", {"prevResult": result})
    assert (status, answer["code"], answer["details"]) == (1, 105, "attachment_released")
    status, answer = check(pod, result, CNI_NETNS=str(simulated.netns_path(stranger.netns)))
    assert (status, answer["code"]) == (1, 117)
    assert check(pod, result) == (0, {})


def test_a_status_that_fails_stops_no_other_verb(pod: Pod):
    newest = {"cniVersion": "1.1.0"}
    lost = newest | {"network": "nowhere"}
    status, answer = pod.call("STATUS", lost, **NO_CONTAINER)
    assert (status, answer["code"]) == (1, 50)
    assert pod.call("ADD", lost)[1]["code"] == 101
    assert pod.call("DEL", lost) == (0, {})
    status, result = pod.call("ADD", newest)
    assert status == 0, result
    assert pod.call("STATUS", lost, **NO_CONTAINER)[0] == 1
    assert pod.call("CHECK", newest | {"prevResult": result}) == (0, {})
    assert pod.call("GC", lost, **NO_CONTAINER) == (0, {})
    assert interfaces_in(pod) == {"eth0"}
