"""The reference plugins after ours in one list: each works, and deleting the list leaves nothing."""

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_worker.netlink import simulated
from node_worker.netlink.namespace import Netns
from node_worker.plan import bridge_name
from tests.acceptance.chaining import Attachment, Chain, PluginError
from tests.acceptance.machines import Machine, Pod, until
from tests.acceptance.runtime_calls import (
    addresses_of,
    attached,
    host_links,
    interfaces_in,
    routed_network,
    seen,
)

REFERENCE = Path("/usr/lib/cni")
GATEWAY = "10.93.0.1"
NETWORK = "chained"
PORT = 8080
OURS = {"type": "moorage", "network": NETWORK}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
MAPPINGS = [{"hostPort": PORT, "containerPort": 80, "protocol": "tcp"}]
PORTMAPS_MISTAKE = "could not check ipv6 dnat"
pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("cni-spec"),
]


@pytest.fixture(scope="module")
def machine(one_node: Machine) -> Machine:
    routed_network(one_node, NETWORK, f"{GATEWAY}/24")
    # The simulated host is its pods' router, as many clusters' nodes are.
    host = Pod(one_node, "bank/nobody-0", "node-1", NETWORK)
    done = host.on_host("ip", "address", "add", f"{GATEWAY}/24", "dev", bridge_name(NETWORK))
    assert done.returncode == 0, done.stderr
    return one_node


@pytest.fixture
def pod(machine: Machine) -> Pod:
    return Pod(machine, f"bank/api-{uuid.uuid4().hex[:6]}", "node-1", NETWORK)


def of_pod(pod: Pod) -> Attachment:
    namespace, name = pod.owner.split("/")
    args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"
    return Attachment(pod.container_id, str(simulated.netns_path(pod.netns)), args=args)


def chain(pod: Pod, *after: dict[str, Any], first: dict[str, Any] = OURS, **capabilities: Any) -> Chain:
    """Ours and what comes after it, with the runtime's arguments for their capabilities."""
    return Chain(
        {"cniVersion": "1.0.0", "name": "pods", "plugins": [first, *after]},
        [pod.shim.parent, REFERENCE],
        host=pod.node.host.path,
        environment={"MOORAGE_CNI_SOCKET": str(pod.node.socket)},
        capabilities=capabilities,
    )


@contextlib.contextmanager
def listening(pod: Pod, port: int) -> Iterator[socket.socket]:
    """A TCP socket that listens in the pod's namespace."""
    with Netns(str(simulated.netns_path(pod.netns))) as netns, netns.entered():
        listener = socket.create_server(("0.0.0.0", port))  # noqa: S104  inside the pod
    with listener:
        listener.settimeout(10)
        yield listener


def connected(pod: Pod, address: str, port: int) -> bool:
    """Whether somebody on the pod's node comes through to that port."""
    with Netns(str(pod.node.host.path)) as netns, netns.entered():
        caller = socket.socket()
    with caller:
        caller.settimeout(5)
        return caller.connect_ex((address, port)) == 0


def rules(pod: Pod, address: str) -> list[str]:
    """The iptables rules of the node, all tables, that name the pod's address or its container."""
    shown = pod.on_host("iptables-save")
    assert shown.returncode == 0, shown.stderr
    return [line for line in shown.stdout.splitlines() if address in line or pod.container_id[:12] in line]


def check(conflist: Chain, pod: Pod) -> None:
    """CHECK of the list, less portmap's mistake: it looks in both families for what it made in one."""
    try:
        conflist.check(of_pod(pod))
    except PluginError as failure:
        if failure.plugin != "portmap" or PORTMAPS_MISTAKE not in failure.error["msg"]:
            raise


def nothing_is_left(machine: Machine, pod: Pod, result: dict[str, Any]) -> None:
    (address,) = addresses_of(result)
    assert interfaces_in(pod) == set()
    assert result["interfaces"][0]["name"] not in host_links(pod)
    assert rules(pod, address) == []
    until(lambda: address not in {str(view.address) for view in attached(machine, NETWORK)})


def test_a_port_of_the_host_reaches_the_pod_by_portmap(machine: Machine, pod: Pod):
    conflist = chain(pod, PORTMAP, portMappings=MAPPINGS)
    result = conflist.add(of_pod(pod))
    (address,) = addresses_of(result)
    with listening(pod, 80) as listener:
        assert connected(pod, GATEWAY, PORT), rules(pod, address)
        accepted, _ = listener.accept()
        accepted.close()
        check(conflist, pod)
        conflist.delete(of_pod(pod))
        assert not connected(pod, GATEWAY, PORT)
    nothing_is_left(machine, pod, result)


def what_portmap_checks(conflist: Chain, pod: Pod) -> str | None:
    """What a CHECK of the list that was added comes to: None, or portmap's words up to the chain's name."""
    conflist.add(of_pod(pod))
    try:
        conflist.check(of_pod(pod))
    except PluginError as failure:
        assert failure.plugin == "portmap"
        return str(failure.error["msg"]).partition(": chain CNI-DN-")[0]
    finally:
        conflist.delete(of_pod(pod))
    return None


def test_portmap_checks_after_us_what_it_checks_after_the_reference_plugin(
    machine: Machine, pod: Pod, tmp_path: Path
):
    """Its answer is no fault of what we return."""
    ipam = {"type": "host-local", "subnet": "10.98.0.0/24", "dataDir": str(tmp_path)}
    reference = {"type": "bridge", "bridge": "reference0", "isGateway": True, "ipam": ipam}
    after_us = what_portmap_checks(chain(pod, PORTMAP, portMappings=MAPPINGS), pod)
    other = Pod(machine, "bank/other-0", "node-1", NETWORK)
    after_it = what_portmap_checks(chain(other, PORTMAP, first=reference, portMappings=MAPPINGS), other)
    assert after_us == after_it
    assert after_us in (None, PORTMAPS_MISTAKE)


def qdiscs(pod: Pod, link: str) -> list[dict[str, Any]]:
    shown = pod.on_host("tc", "-json", "qdisc", "show", "dev", link)
    return list(json.loads(shown.stdout or "[]")) if shown.returncode == 0 else []


def test_the_hosts_end_is_slowed_down_by_bandwidth(machine: Machine, pod: Pod):
    rates = {
        "ingressRate": 8_000_000,
        "ingressBurst": 800_000,
        "egressRate": 8_000_000,
        "egressBurst": 800_000,
    }
    conflist = chain(pod, {"type": "bandwidth", "capabilities": {"bandwidth": True}}, bandwidth=rates)
    before = host_links(pod)
    result = conflist.add(of_pod(pod))
    outer = result["interfaces"][0]["name"]
    assert qdiscs(pod, outer)[0]["kind"] == "tbf"
    shaper = result["interfaces"][-1]["name"]
    assert qdiscs(pod, shaper)[0]["kind"] == "tbf", (
        "what the pod sends is slowed down behind a link of its own"
    )
    check(conflist, pod)
    conflist.delete(of_pod(pod))
    assert host_links(pod) == before
    nothing_is_left(machine, pod, result)


def test_a_mac_and_a_sysctl_changed_by_tuning_are_as_they_should_be_to_check(
    machine: Machine, pod: Pod, tmp_path: Path
):
    mac, key = "02:00:00:00:00:99", "net.ipv4.conf.eth0.arp_filter"
    tuning = {
        "type": "tuning",
        "sysctl": {key: "1"},
        "capabilities": {"mac": True},
        "dataDir": str(tmp_path),
    }
    conflist = chain(pod, tuning, mac=mac)
    result = conflist.add(of_pod(pod))
    (link,) = seen(pod, "link", "show", "eth0")
    assert (link["address"], result["interfaces"][1]["mac"]) == (mac, mac)
    assert pod.run("sysctl", "-n", key).stdout.strip() == "1"
    check(conflist, pod)
    assert pod.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:98").returncode == 0
    with pytest.raises(PluginError) as caught:
        conflist.check(of_pod(pod))
    assert (caught.value.plugin, caught.value.error["code"]) == ("moorage", 117)
    conflist.delete(of_pod(pod))
    nothing_is_left(machine, pod, result)


def test_the_pod_is_let_through_by_firewall(machine: Machine, pod: Pod):
    conflist = chain(pod, {"type": "firewall", "backend": "iptables"})
    result = conflist.add(of_pod(pod))
    (address,) = addresses_of(result)
    assert [line for line in rules(pod, address) if "CNI-FORWARD" in line]
    check(conflist, pod)
    conflist.delete(of_pod(pod))
    nothing_is_left(machine, pod, result)


def test_all_of_them_in_one_list_are_added_checked_and_deleted(machine: Machine, pod: Pod, tmp_path: Path):
    after = [
        {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "dataDir": str(tmp_path)},
        {"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000},
        {"type": "firewall", "backend": "iptables"},
        PORTMAP,
    ]
    conflist = chain(pod, *after, portMappings=MAPPINGS)
    result = conflist.add(of_pod(pod))
    with listening(pod, 80):
        assert connected(pod, GATEWAY, PORT)
    check(conflist, pod)
    conflist.delete(of_pod(pod))
    conflist.delete(of_pod(pod))
    nothing_is_left(machine, pod, result)


def test_a_plugin_that_fails_after_ours_costs_nothing_once_the_list_is_deleted(machine: Machine, pod: Pod):
    conflist = chain(pod, {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.unheard_of": "1"}})
    with pytest.raises(PluginError) as caught:
        conflist.add(of_pod(pod))
    assert caught.value.plugin == "tuning"
    assert interfaces_in(pod) == {"eth0"}
    conflist.delete(of_pod(pod))
    assert interfaces_in(pod) == set()
    until(lambda: pod.container_id not in {view.container_id for view in attached(machine, NETWORK)})
