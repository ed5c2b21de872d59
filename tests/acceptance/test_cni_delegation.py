"""Another plugin makes the interface and asks us for addresses alone (SPEC, section 4 and section 5)."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_worker.netlink import simulated
from tests.acceptance.chaining import Attachment, Chain, PluginError
from tests.acceptance.machines import Machine, Pod, until
from tests.acceptance.runtime_calls import (
    NO_CONTAINER,
    VERSIONS,
    addresses_of,
    annotated,
    attached,
    interfaces_in,
    routed_network,
    seen,
)

REFERENCE = Path("/usr/lib/cni")
NETWORK, MASTER = "lent", "lent-master"
IPAM = {"type": "moorage", "network": NETWORK}
pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("cni-spec"),
]


@pytest.fixture(scope="module")
def machine(one_node: Machine) -> Machine:
    routed_network(one_node, NETWORK, "10.99.0.1/24", "fd00:99::1/64")
    one_node.pool(NETWORK, "web", ["10.99.0.10-10.99.0.19", "fd00:99::10-fd00:99::19"], ["shop/web-*"])
    host = Pod(one_node, "bank/nobody-0", "node-1", NETWORK)
    cable = ["add", MASTER, "type", "veth", "peer", "name", "lent-there"]
    for words in (cable, ["set", MASTER, "up"], ["set", "lent-there", "up"]):
        assert host.on_host("ip", "link", *words).returncode == 0
    return one_node


@pytest.fixture
def pod(machine: Machine) -> Iterator[Pod]:
    made = Pod(machine, f"bank/api-{uuid.uuid4().hex[:6]}", "node-1", NETWORK)
    yield made
    assert made.call("DEL", delegated()) == (0, {})


def delegated(version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    """What a plugin passes on to us: the whole of its own configuration."""
    return {"cniVersion": version, "type": "bridge", "bridge": "lent0", "ipam": IPAM} | more


def chain(pod: Pod, kind: str, **more: Any) -> Chain:
    """The reference plugin `kind` alone, with addresses from us."""
    return Chain(
        {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": kind, "ipam": IPAM, **more}]},
        [pod.shim.parent, REFERENCE],
        host=pod.node.host.path,
        environment={"MOORAGE_CNI_SOCKET": str(pod.node.socket)},
    )


def of_pod(pod: Pod) -> Attachment:
    namespace, name = pod.owner.split("/")
    args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"
    return Attachment(pod.container_id, str(simulated.netns_path(pod.netns)), args=args)


def nobody_holds(machine: Machine, addresses: list[str]) -> None:
    until(lambda: not {*addresses} & {str(view.address) for view in attached(machine, NETWORK)})


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("bridge", {"bridge": "lent0"}),
        ("bridge", {"bridge": "lent1", "isGateway": True}),
        ("macvlan", {"master": MASTER}),
    ],
    ids=["bridge", "bridge-as-gateway", "macvlan"],
)
def test_a_reference_plugin_gives_its_interface_our_addresses_and_takes_them_back(
    machine: Machine, pod: Pod, kind: str, more: dict[str, Any]
):
    plugin = chain(pod, kind, **more)
    result = plugin.add(of_pod(pod))
    addresses = addresses_of(result)
    (link,) = seen(pod, "address", "show", "eth0")
    assert {*addresses} <= {entry["local"] for entry in link["addr_info"]}
    assert {*addresses} <= {str(view.address) for view in attached(machine, NETWORK)}
    plugin.check(of_pod(pod))
    plugin.delete(of_pod(pod))
    plugin.delete(of_pod(pod))
    assert interfaces_in(pod) == set()
    nobody_holds(machine, addresses)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_result_for_another_plugin_has_addresses_and_routes_and_nothing_of_interfaces(
    pod: Pod, version: str
):
    status, result = pod.call("ADD", delegated(version))
    assert status == 0, result
    assert set(result) == {"cniVersion", "ips", "routes", "dns"}
    with_version = {"version"} if version in {"0.3.1", "0.4.0"} else set()
    assert [set(ip) for ip in result["ips"]] == [{"address", "gateway"} | with_version] * 2
    assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0", "::/0"]
    assert interfaces_in(pod) == set(), "the other plugin makes it"


def test_a_fixed_address_is_the_owners_whoever_makes_its_interface(machine: Machine):
    given = []
    for kind, more in (("bridge", {"bridge": "lent0"}), ("macvlan", {"master": MASTER})):
        sandbox = Pod(machine, "shop/web-0", "node-1", NETWORK)
        plugin = chain(sandbox, kind, **more)
        given.append(addresses_of(plugin.add(of_pod(sandbox))))
        plugin.delete(of_pod(sandbox))
    own = Pod(machine, "shop/web-0", "node-1", NETWORK)
    given.append(addresses_of(own.add()))
    own.delete()
    assert given[0] == given[1] == given[2]


def test_a_pods_annotations_reach_us_through_another_plugin(pod: Pod):
    status, result = pod.call("ADD", delegated(**annotated(ip="10.99.0.77")))
    assert status == 0, result
    assert addresses_of(result)[0] == "10.99.0.77"


def test_a_refusal_of_ours_is_the_other_plugins_and_costs_no_address(machine: Machine, pod: Pod):
    plugin = chain(pod, "bridge", bridge="lent0", runtimeConfig=annotated(pool="web")["runtimeConfig"])
    with pytest.raises(PluginError) as caught:
        plugin.add(of_pod(pod))
    assert caught.value.error["code"] == 103
    plugin.delete(of_pod(pod))
    assert interfaces_in(pod) == set()
    assert pod.container_id not in {view.container_id for view in attached(machine, NETWORK)}


def test_status_gc_and_a_configuration_without_a_network_are_understood(pod: Pod):
    newest = delegated("1.1.0")
    assert pod.call("STATUS", newest, **NO_CONTAINER) == (0, {})
    assert pod.call("GC", newest, **NO_CONTAINER) == (0, {})
    status, answer = pod.call("ADD", newest | {"ipam": {"type": "moorage"}})
    assert (status, answer["code"]) == (1, 7)
    assert "network" in answer["msg"]
