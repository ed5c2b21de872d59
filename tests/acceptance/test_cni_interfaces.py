"""Several interfaces of one pod, as Multus asks for them: one container id, each with its own network."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.machines import Machine, Pod, until
from tests.acceptance.runtime_calls import (
    addresses_of,
    annotated,
    attached,
    host_links,
    interfaces_in,
    routed_network,
    seen,
)

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("cni-spec"),
]
CONF = Path(__file__).parent / "conf"
INTERFACES = {"eth0": "first", "net1": "second", "net2": "third"}


@pytest.fixture(scope="module")
def machine(one_node: Machine) -> Machine:
    routed_network(one_node, "first", "10.95.1.1/24")
    one_node.network("second", "10.95.2.0/24")
    one_node.network("third", "10.95.3.0/24")
    one_node.network("storage", "10.95.6.0/24")
    routed_network(one_node, "routed", "10.95.4.1/24", "fd00:95::1/64")
    routed_network(one_node, "routed-too", "10.95.5.1/24", "fd00:96::1/64")
    return one_node


@pytest.fixture
def pod(machine: Machine) -> Iterator[Pod]:
    made = Pod(machine, f"bank/api-{uuid.uuid4().hex[:6]}", "node-1")
    yield made
    for ifname in INTERFACES:
        assert call(made, "DEL", ifname) == (0, {})


def call(
    pod: Pod, verb: str, ifname: str, network: str | None = None, **more: Any
) -> tuple[int, dict[str, Any]]:
    """A call for one interface, under the configuration of its network."""
    network = network or INTERFACES[ifname]
    conf = {"cniVersion": "1.0.0", "name": f"net-{network}", "network": network}
    return pod.call(verb, conf | more, CNI_IFNAME=ifname)


def add(pod: Pod, ifname: str, network: str | None = None, **more: Any) -> dict[str, Any]:
    status, result = call(pod, "ADD", ifname, network, **more)
    assert status == 0, result
    return result


def test_one_pod_has_an_interface_on_each_of_three_networks_and_each_del_ends_one(machine: Machine, pod: Pod):
    results = {ifname: add(pod, ifname) for ifname in INTERFACES}
    assert interfaces_in(pod) == set(INTERFACES)
    for number, (ifname, result) in enumerate(results.items(), 1):
        assert result["interfaces"][1]["name"] == ifname
        assert addresses_of(result)[0].startswith(f"10.95.{number}.")
        assert call(pod, "CHECK", ifname, prevResult=result) == (0, {})
    assert call(pod, "DEL", "net1") == (0, {})
    assert interfaces_in(pod) == {"eth0", "net2"}
    until(lambda: pod.container_id not in {view.container_id for view in attached(machine, "second")})
    for ifname in ("eth0", "net2"):
        assert call(pod, "CHECK", ifname, prevResult=results[ifname]) == (0, {})
    links = host_links(pod)
    assert [results[ifname]["interfaces"][0]["name"] in links for ifname in INTERFACES] == [True, False, True]
    assert call(pod, "DEL", "eth0") == (0, {})
    assert interfaces_in(pod) == {"net2"}


def test_one_pod_may_have_two_interfaces_on_one_network(machine: Machine, pod: Pod):
    first, second = add(pod, "net1", "second"), add(pod, "net2", "second")
    assert addresses_of(first) != addresses_of(second)
    assert call(pod, "DEL", "net1", "second") == (0, {})
    assert interfaces_in(pod) == {"net2"}
    assert {str(view.address) for view in attached(machine, "second")} >= set(addresses_of(second))


def test_a_second_add_of_one_interface_is_refused_and_the_others_go_on(pod: Pod):
    first = add(pod, "eth0")
    add(pod, "net1")
    status, answer = call(pod, "ADD", "net1")
    assert (status, answer["code"]) == (1, 110)
    assert interfaces_in(pod) == {"eth0", "net1"}
    assert call(pod, "CHECK", "eth0", prevResult=first) == (0, {})


def test_annotations_are_about_the_interface_that_they_name_or_else_eth0(pod: Pod):
    wishes = annotated(ip="10.95.1.77", ip_net1="10.95.2.88")
    results = [add(pod, ifname, **wishes) for ifname in INTERFACES]
    assert [addresses_of(result) for result in results[:2]] == [["10.95.1.77"], ["10.95.2.88"]]
    assert addresses_of(results[2])[0].startswith("10.95.3.")


def test_an_annotation_chooses_the_network_of_the_interface_that_it_names(machine: Machine, pod: Pod):
    wishes = annotated(network_net1="third")
    assert addresses_of(add(pod, "eth0", **wishes))[0].startswith("10.95.1.")
    assert addresses_of(add(pod, "net1", **wishes))[0].startswith("10.95.3.")
    assert call(pod, "DEL", "net1") == (0, {}), "without the annotations, as after a runtime's restart"
    until(lambda: pod.container_id not in {view.container_id for view in attached(machine, "third")})


def test_a_network_that_multus_adds_to_a_pod(machine: Machine, pod: Pod):
    """The configuration of a NetworkAttachmentDefinition, with what the pod's annotation asks of it."""
    (plugin,) = json.loads((CONF / "multus-storage.conflist").read_text())["plugins"]
    asked = {"runtimeConfig": {"ips": ["10.95.6.60/24"]}, "name": "storage", "cniVersion": "1.0.0"}
    assert set(plugin["capabilities"]) >= set(asked["runtimeConfig"])
    add(pod, "eth0")
    status, result = pod.call("ADD", plugin | asked, CNI_IFNAME="net1")
    assert (status, addresses_of(result)) == (0, ["10.95.6.60"])
    assert interfaces_in(pod) == {"eth0", "net1"}
    assert pod.call("CHECK", plugin | asked | {"prevResult": result}, CNI_IFNAME="net1") == (0, {})
    assert pod.call("DEL", plugin | asked, CNI_IFNAME="net1") == (0, {})
    assert interfaces_in(pod) == {"eth0"}


def test_a_default_route_is_there_where_the_first_network_has_a_gateway(pod: Pod):
    for ifname in INTERFACES:
        add(pod, ifname)
    (default,) = seen(pod, "route", "show", "default")
    assert (default["dev"], default["gateway"]) == ("eth0", "10.95.1.1")


def test_a_second_network_with_a_gateway_does_not_take_over_the_default_route(pod: Pod):
    add(pod, "eth0", "routed")
    status, result = call(pod, "ADD", "net1", "routed-too")
    assert status == 0, result
    for family, gateway in (("-4", "10.95.4.1"), ("-6", "fd00:95::1")):
        defaults = seen(pod, family, "route", "show", "default")
        first = min(defaults, key=lambda route: route.get("metric", 0))
        assert (first["dev"], first["gateway"]) == ("eth0", gateway)
    assert call(pod, "CHECK", "net1", "routed-too", prevResult=result) == (0, {})
    assert call(pod, "DEL", "net1", "routed-too") == (0, {})
    assert interfaces_in(pod) == {"eth0"}
