"""Each driver between three hosts: pods reach one another, with full packets, and are found where they move.

Which link types a kernel has differs; those that this one lacks are tried in `make test-vm`.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from node_worker.attachments import Attachment, State
from node_worker.drivers import Driver
from node_worker.drivers.bridge import BridgeDriver
from node_worker.drivers.child import ChildDriver
from node_worker.drivers.vxlan import VxlanDriver
from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import inside
from node_worker.plan import EndpointPlan
from schemas.errors import Code, ServiceError
from schemas.network import NetworkDefinition
from tests.links import on
from tests.node_lab import Lab, link, links_of, pings, plan, run

pytestmark = pytest.mark.netns

PEERS = tuple(IPv4Address(f"192.168.77.{number}") for number in (1, 2, 3))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(stack)


def definition(**driver: Any) -> NetworkDefinition:
    subnets = [{"cidr": "10.20.0.0/24", "gateway": "10.20.0.1"}, {"cidr": "fd00:20::/64"}]
    return NetworkDefinition.model_validate({"driver": driver, "subnets": subnets})


def driver_of(host: Netns, made: NetworkDefinition, number: int) -> Driver:
    kind = made.driver.type
    if kind == "vxlan":
        return VxlanDriver(host, lambda: PEERS[number])
    return ChildDriver(host, kind) if kind in ("macvlan", "ipvlan") else BridgeDriver(host)  # type: ignore[arg-type]


@dataclass
class Network:
    """A network on three hosts."""

    lab: Lab
    made: NetworkDefinition
    hosts: list[Netns]
    drivers: list[Driver]

    def attach(self, number: int, host: int) -> Netns:
        """A new pod with the addresses of that number."""
        pod = self.lab.netns(f"pod{number}-{host}")
        planned = self.plan(number)
        with closing(self.drivers[host].prepare(planned, pod, self.made)) as prepared:
            prepared.complete(planned)
        return pod

    def plan(self, number: int) -> EndpointPlan:
        return replace(plan(number, ipv6=True), mtu=self.made.mtu)

    def attachment(self, number: int, pod: Netns) -> Attachment:
        planned = self.plan(number)
        return Attachment(
            attachment_id=UUID(int=number),
            network="prod",
            conf_name="pods",
            container_id=f"c{number}",
            ifname="eth0",
            owner=f"shop/web-{number}",
            netns=pod.path,
            netns_device=pod.device,
            netns_inode=pod.inode,
            netns_cookie=pod.cookie(),
            boot_id="boot",
            driver=self.made.driver.type,
            bridge=planned.bridge,
            host_link=planned.host_link,
            state=State.ATTACHED,
            addresses=planned.addresses,
            mac=planned.mac,
        )

    def detach(self, number: int, pod: Netns, host: int) -> None:
        attachment = self.attachment(number, pod)
        self.drivers[host].cut(attachment)
        self.drivers[host].detach(attachment)


def network(lab: Lab, **driver: Any) -> Network:
    made = definition(**driver)
    hosts = lab.hosts("a", "b", "c")
    for host, address in zip(hosts, PEERS, strict=True):
        run(host, "ip", "address", "add", f"{address}/24", "dev", "eth1")
        if driver["type"] == "bridge":
            run(host, "ip", "address", "flush", "dev", "eth1")  # an uplink has none
    drivers = [driver_of(host, made, number) for number, host in enumerate(hosts)]
    for each in drivers:
        each.ensure("prod", made, PEERS)
    return Network(lab, made, hosts, drivers)


BRIDGED = (
    on(type="bridge", uplink="eth1"),
    on(type="bridge", uplink="eth1", vlan=100),
    on(type="vxlan", vni=42),
)
BESIDE = (
    on(type="macvlan", parent="eth1"),
    on(type="macvlan", parent="eth1", vlan=100),
    on(type="ipvlan", parent="eth1"),
    on(type="ipvlan", parent="eth1", vlan=100),
)
every_driver = pytest.mark.parametrize("driver", BRIDGED + BESIDE)


@every_driver
def test_every_pod_reaches_every_other_on_three_nodes_also_with_full_packets(lab: Lab, driver: Any) -> None:
    made = network(lab, **driver)
    pods = {number: made.attach(number, host=number % 3) for number in range(10, 16)}
    full = str(made.made.mtu - 28)  # less the headers of IPv4 and ICMP
    for one, other in permutations(pods, 2):
        assert pings(pods[one], f"10.20.0.{other}"), f"{one} does not reach {other}"
        assert pings(pods[one], f"fd00:20::{other:x}"), f"{one} does not reach {other} by IPv6"
    assert run(pods[10], "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", full, "10.20.0.11")
    more = str(made.made.mtu - 27)
    assert not run(pods[10], "ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", more, "10.20.0.11")


@every_driver
def test_a_pod_that_moves_is_reached_by_an_open_ping_within_two_seconds(lab: Lab, driver: Any) -> None:
    made = network(lab, **driver)
    peer, pod = made.attach(10, host=0), made.attach(11, host=1)
    ping = ["nsenter", f"--net={peer.path}", "ping", "-n", "-O", "-i", "0.1", "10.20.0.11"]
    with subprocess.Popen(ping, stdout=subprocess.PIPE, text=True) as open_ping:
        try:
            answered(open_ping, lambda line: "bytes from" in line)
            made.detach(11, pod, host=1)
            answered(open_ping, lambda line: "no answer" in line)
            made.attach(11, host=2)
            assert answered(open_ping, lambda line: "bytes from" in line, within=20) <= 20
        finally:
            open_ping.terminate()


def answered(ping: subprocess.Popen[str], wanted: Callable[[str], bool], within: int = 50) -> int:
    """How many lines of a ping, one each tenth of a second, it took until one is as wanted."""
    assert ping.stdout is not None
    for count in range(within):
        if wanted(ping.stdout.readline()):
            return count
    raise AssertionError(f"not within {within} pings")


@every_driver
def test_an_endpoint_that_is_cut_is_heard_no_more_and_then_gone(lab: Lab, driver: Any) -> None:
    made = network(lab, **driver)
    peer, pod = made.attach(10, host=0), made.attach(11, host=1)
    attachment = made.attachment(11, pod)
    found = made.drivers[1].inspect(attachment, pod)
    parents = link(made.hosts[1], "eth1")
    mac = parents.mac if driver["type"] == "ipvlan" and parents is not None else attachment.mac
    assert (found.mac, found.up, set(found.addresses) >= set(attachment.addresses)) == (mac, True, True)
    for _ in range(2):
        made.drivers[1].cut(attachment)
        assert not pings(peer, "10.20.0.11", 1)
        made.drivers[1].detach(attachment)
        assert link(pod, "eth0") is None


@every_driver
def test_making_a_network_twice_changes_nothing_and_removing_it_leaves_nothing(lab: Lab, driver: Any) -> None:
    made = network(lab, **driver)
    before = links_of(made.hosts[0])
    made.drivers[0].ensure("prod", made.made, PEERS)
    assert links_of(made.hosts[0]) == before
    for _ in range(2):
        made.drivers[0].remove("prod", made.made)
    assert links_of(made.hosts[0]) & {"mo-prod", "mt-prod", "eth1.100"} == set()
    assert link(made.hosts[0], "eth1") is not None


@pytest.mark.parametrize("driver", BRIDGED)
def test_a_bridge_deleted_by_hand_is_made_anew_with_its_pods_on_it(lab: Lab, driver: Any) -> None:
    made = network(lab, **driver)
    pods = {number: made.attach(number, host) for number, host in ((10, 0), (11, 0), (12, 1))}
    run(made.hosts[0], "ip", "link", "add", "foreign", "type", "bridge")
    run(made.hosts[0], "ip", "link", "delete", "mo-prod")
    assert not pings(pods[10], "10.20.0.11", 1)
    made.drivers[0].ensure("prod", made.made, PEERS)
    made.drivers[0].mend("prod", [made.attachment(number, pods[number]) for number in (10, 11)])
    assert pings(pods[10], "10.20.0.11")
    assert pings(pods[10], "10.20.0.12")
    foreign = link(made.hosts[0], "foreign")
    assert foreign is not None
    assert foreign.alias is None


@pytest.mark.parametrize("driver", BESIDE)
def test_a_pod_beside_the_nodes_interface_and_its_node_reach_one_another(lab: Lab, driver: Any) -> None:
    made = network(lab, **driver, services=["10.96.0.0/12", "fd00:96::/112"])
    node = made.hosts[0]
    run(node, "ip", "address", "add", "fd00:77::1/64", "dev", "eth1", "nodad")
    run(node, "ip", "link", "add", "services", "type", "bridge")  # what kube-proxy has for them
    run(node, "ip", "link", "set", "services", "up")
    for service in ("10.96.0.1/32", "fd00:96::1/128"):
        quick = ["nodad"] if ":" in service else []
        run(node, "ip", "address", "add", service, "dev", "services", *quick)
    pod, other = made.attach(10, host=0), made.attach(11, host=1)
    for address in (str(PEERS[0]), "fd00:77::1", "10.96.0.1", "fd00:96::1"):
        assert pings(pod, address), f"the pod does not reach {address}"
    for address in ("10.20.0.10", "fd00:20::a"):
        assert pings(node, address), f"the node does not reach {address}, as kubelet has to"
    assert pings(pod, "10.20.0.11")
    assert pings(other, str(PEERS[1]))
    run(pod, "ip", "address", "add", "10.20.0.66/32", "dev", "lo")
    before = echoes(node)
    run(pod, "ping", "-n", "-c", "1", "-W", "1", "-I", "10.20.0.66", str(PEERS[0]))
    assert echoes(node) == before, "the node takes what does not come from the pod's own address"
    run(node, "ip", "route", "delete", "10.20.0.10/32")
    assert not pings(node, "10.20.0.10", 1)
    made.drivers[0].mend("prod", [made.attachment(10, pod)])
    assert pings(node, "10.20.0.10")
    made.detach(10, pod, host=0)
    assert not {name for name in links_of(node) | links_of(pod) if name.startswith(("mo", "mh"))}
    assert "10.20.0.10" not in run(node, "ip", "route")


def echoes(node: Netns) -> str:
    """How many pings the node's IPv4 took."""
    names, values = [
        line.split() for line in run(node, "cat", "/proc/net/snmp").splitlines() if "Icmp:" in line
    ]
    return values[names.index("InEchos")]


@pytest.mark.parametrize("driver", BESIDE)
def test_a_pod_and_its_node_are_kept_apart_where_that_is_asked_for(lab: Lab, driver: Any) -> None:
    made = network(lab, **driver, host_access=False)
    pod = made.attach(10, host=0)
    assert links_of(pod) >= {"lo", "eth0"}
    assert not {name for name in links_of(pod) | links_of(made.hosts[0]) if name.startswith(("mo", "mh"))}


def test_tunnels_follow_the_nodes(lab: Lab) -> None:
    made = network(lab, type="vxlan", vni=42)
    made.drivers[0].ensure("prod", made.made, PEERS[:2])
    assert led_to(made.hosts[0]) == {PEERS[1]}
    made.drivers[0].ensure("prod", made.made, PEERS)
    assert led_to(made.hosts[0]) == {PEERS[1], PEERS[2]}


def led_to(host: Netns) -> set[Any]:
    with inside(host) as links:
        tunnel = links.find("mt-prod")
        return links.peers(tunnel.index) if tunnel is not None else set()


def test_a_tunnel_with_another_number_or_end_is_made_anew(lab: Lab) -> None:
    made = network(lab, type="vxlan", vni=42)
    other = definition(type="vxlan", vni=43)
    made.drivers[0].ensure("prod", other, PEERS)
    told = run(made.hosts[0], "ip", "-details", "link", "show", "mt-prod")
    assert "vxlan id 43" in told


def test_tunnels_go_over_ipv6_too(lab: Lab) -> None:
    made = NetworkDefinition.model_validate(
        {"driver": {"type": "vxlan", "vni": 7}, "mtu": 1430, "subnets": [{"cidr": "10.20.0.0/24"}]}
    )
    ends = [ip_address(f"fd00:77::{number}") for number in (1, 2)]
    hosts = lab.hosts("a", "b")
    drivers: list[Driver] = []
    for host, end in zip(hosts, ends, strict=True):
        run(host, "ip", "address", "add", f"{end}/64", "dev", "eth1", "nodad")
        drivers.append(VxlanDriver(host, lambda end=end: end))  # type: ignore[misc]
        drivers[-1].ensure("prod", made, ends)
    both = Network(lab, made, hosts, drivers)
    one, _ = both.attach(10, host=0), both.attach(11, host=1)
    assert pings(one, "10.20.0.11")
    assert run(one, "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1402", "10.20.0.11")


@pytest.mark.parametrize(
    ("driver", "mtu", "code", "said"),
    [
        ({"type": "vxlan", "vni": 1}, 1500, Code.LINK_CONFLICT, "leaves 1450"),
        ({"type": "macvlan", "parent": "eth1"}, 9000, Code.LINK_CONFLICT, "ip link set eth1 mtu 9000"),
        ({"type": "macvlan", "parent": "eth9"}, 1500, Code.UPLINK_MISSING, "no interface eth9"),
        ({"type": "macvlan", "parent": "lo"}, 1500, Code.UPLINK_MISSING, "no interface lo"),
    ],
)
def test_a_network_that_does_not_fit_the_node_is_refused(
    lab: Lab, driver: Any, mtu: int, code: Code, said: str
) -> None:
    host, _, _ = lab.hosts("a", "b", "c")
    run(host, "ip", "address", "add", f"{PEERS[0]}/24", "dev", "eth1")
    made = definition(**driver).model_copy(update={"mtu": mtu})
    with pytest.raises(ServiceError, match=said) as refused:
        driver_of(host, made, 0).ensure("prod", made, PEERS)
    assert refused.value.code == code
    assert links_of(host) & {"mt-prod"} == set()


def test_an_mtu_that_does_not_fit_changes_nothing(lab: Lab) -> None:
    made = network(lab, type="vxlan", vni=42)
    larger = made.made.model_copy(update={"mtu": 1500})
    with pytest.raises(ServiceError, match="leaves 1450"):
        made.drivers[0].ensure("prod", larger, PEERS)
    assert {found.mtu for name in ("mo-prod", "mt-prod") if (found := link(made.hosts[0], name))} == {1450}


def test_an_interface_with_pods_beside_it_joins_no_bridge_and_none_is_left(lab: Lab) -> None:
    beside = network(lab, type="macvlan", parent="eth1", host_access=False)
    host = beside.hosts[0]
    beside.attach(10, host=0)
    run(host, "ip", "address", "flush", "dev", "eth1")
    with pytest.raises(ServiceError, match="keep it from joining") as refused:
        BridgeDriver(host).ensure("other", definition(type="bridge", uplink="eth1"), ())
    assert refused.value.code == Code.UPLINK_IN_USE
    assert link(host, "mo-other") is None


def test_a_node_without_the_address_of_its_tunnels_says_which_setting_names_one(lab: Lab) -> None:
    host = lab.netns("host")
    made = definition(type="vxlan", vni=1)
    with pytest.raises(ServiceError, match="MOORAGE_NODE_ADDRESS") as refused:
        driver_of(host, made, 0).ensure("prod", made, PEERS)
    assert refused.value.code == Code.UPLINK_MISSING


def test_pods_are_not_put_beside_the_port_of_a_bridge(lab: Lab) -> None:
    host, _ = lab.hosts("a", "b")
    made = definition(type="bridge", uplink="eth1")
    BridgeDriver(host).ensure("other", made, ())
    beside = definition(type="macvlan", parent="eth1")
    with pytest.raises(ServiceError, match="belongs to mo-other") as refused:
        ChildDriver(host, "macvlan").ensure("prod", beside, ())
    assert refused.value.code == Code.UPLINK_IN_USE


def test_a_foreign_link_with_the_tunnels_name_is_refused_and_stays(lab: Lab) -> None:
    host, _ = lab.hosts("a", "b")
    run(host, "ip", "address", "add", f"{PEERS[0]}/24", "dev", "eth1")
    run(host, "ip", "link", "add", "mt-prod", "type", "bridge")
    made = definition(type="vxlan", vni=1)
    with pytest.raises(ServiceError, match="not the tunnel of") as refused:
        driver_of(host, made, 0).ensure("prod", made, PEERS)
    assert refused.value.code == Code.LINK_CONFLICT
    driver_of(host, made, 0).remove("prod", made)
    assert link(host, "mt-prod") is not None


def gateway_network(lab: Lab, **driver: Any) -> Network:
    subnets = [
        {"cidr": "10.20.0.0/24", "gateway": "10.20.0.1"},
        {"cidr": "fd00:20::/64", "gateway": "fd00:20::1"},
    ]
    body = {"driver": {"type": "bridge", "gateway": True} | driver, "subnets": subnets}
    made = NetworkDefinition.model_validate(body)
    hosts = lab.hosts("a", "b")
    return Network(lab, made, hosts, [BridgeDriver(host) for host in hosts])


def test_a_bridge_may_be_the_pods_gateway(lab: Lab) -> None:
    made = gateway_network(lab)
    for _ in range(2):
        made.drivers[0].ensure("prod", made.made, ())
    pod = made.attach(10, host=0)
    assert pings(pod, "10.20.0.1")
    assert pings(pod, "fd00:20::1")


def test_pods_reach_out_through_the_nodes_own_address(lab: Lab) -> None:
    made = gateway_network(lab, masquerade=True)
    node, other = made.hosts
    run(node, "ip", "address", "add", "192.168.77.1/24", "dev", "eth1")
    run(other, "ip", "address", "add", "192.168.77.2/24", "dev", "eth1")
    run(node, "sysctl", "-w", "net.ipv6.conf.all.forwarding=1")
    for _ in range(2):
        made.drivers[0].ensure("prod", made.made, ())
    pod = made.attach(10, host=0)
    assert pings(pod, "192.168.77.2"), "the other host knows no way to the pod's own address"
    made.drivers[0].remove("prod", made.made)
    assert "moorage" not in run(node, "nft", "list", "ruleset")
