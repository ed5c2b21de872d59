"""Networks on macvlan, ipvlan and VLANs across two hosts: what most test machines' kernels cannot show."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any
from uuid import uuid4

import pytest

from node_worker.attachments import Attachment
from node_worker.drivers import Driver
from node_worker.drivers.bridge import BridgeDriver
from node_worker.drivers.child import ChildDriver
from node_worker.netlink import simulated
from node_worker.netlink.namespace import Netns
from node_worker.plan import EndpointPlan, PlannedRoute
from schemas.errors import Code, ServiceError
from schemas.network import NetworkDefinition
from tests.links import on
from tests.node_lab import Lab, link, links_of, pings, plan, run

pytestmark = pytest.mark.netns

MACVLAN = {"type": "macvlan", "parent": "eth1"}
IPVLAN = {"type": "ipvlan", "parent": "eth1"}
BRIDGE = {"type": "bridge", "uplink": "eth1"}
ON_VLAN = {"vlan": 100}
MTU = 1500
needs_link = pytest.mark.needs_link

SETTINGS = [
    on(**MACVLAN),
    on(**MACVLAN, **ON_VLAN),
    on(**IPVLAN),
    on(**IPVLAN, **ON_VLAN),
    on(**BRIDGE, **ON_VLAN),
]
ON_VLANS, CHILDREN = [SETTINGS[1], SETTINGS[3], SETTINGS[4]], [SETTINGS[0], SETTINGS[2]]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        made = Lab(stack)
        yield made
    assert [name for name in simulated.netns_names() if name.startswith(made.name(""))] == []


def defined(settings: dict[str, Any], mtu: int = MTU) -> NetworkDefinition:
    subnets = [{"cidr": "10.20.0.0/24", "gateway": "10.20.0.1"}, {"cidr": "fd00:20::/64"}]
    return NetworkDefinition.model_validate({"driver": settings, "subnets": subnets, "mtu": mtu})


def driver_of(settings: dict[str, Any], host: Netns) -> Driver:
    return BridgeDriver(host) if settings["type"] == "bridge" else ChildDriver(host, settings["type"])


def endpoint(number: int) -> EndpointPlan:
    return replace(plan(number, ipv6=True), mtu=MTU)


def attach(driver: Driver, pod: Netns, wanted: EndpointPlan, settings: dict[str, Any]) -> EndpointPlan:
    with closing(driver.prepare(wanted, pod, defined(settings))) as prepared:
        return prepared.complete(wanted)


def attachment(pod: Netns, planned: EndpointPlan, settings: dict[str, Any]) -> Attachment:
    return Attachment(
        attachment_id=uuid4(),
        network=planned.network,
        conf_name="prod",
        container_id="c1",
        ifname=planned.ifname,
        owner="ns/pod",
        netns=pod.path,
        netns_device=pod.device,
        netns_inode=pod.inode,
        boot_id="boot",
        driver=settings["type"],
        bridge=planned.bridge,
        host_link=planned.host_link,
        addresses=planned.addresses,
        mac=planned.mac,
        netns_cookie=pod.cookie(),
    )


def full(pod: Netns, address: str, mtu: int = MTU) -> bool:
    """A ping as large as the MTU passes in one piece, and one of a byte more does not."""
    headers = 28 if ip_address(address).version == 4 else 48
    ping = ("ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s")
    size = mtu - headers
    return bool(run(pod, *ping, str(size), address)) and not run(pod, *ping, str(size + 1), address)


@pytest.mark.parametrize("settings", SETTINGS)
def test_pods_on_two_hosts_reach_each_other_with_full_packets(lab: Lab, settings: dict[str, Any]) -> None:
    pods = [lab.netns(name) for name in ("pod-a", "pod-b", "pod-c")]
    host_a, host_b = lab.hosts("host-a", "host-b")
    drivers = [driver_of(settings, host) for host in (host_a, host_b, host_b)]
    for number, (driver, pod) in enumerate(zip(drivers, pods, strict=True), 5):
        driver.ensure("prod", defined(settings), ())
        driver.ensure("prod", defined(settings), ())
        made = attach(driver, pod, endpoint(number), settings)
        seen = driver.inspect(attachment(pod, endpoint(number), settings), pod)
        assert (seen.mac, seen.up) == (made.mac, True)
        assert set(made.addresses) <= set(seen.addresses)
    for address in ("10.20.0.6", "fd00:20::6", "10.20.0.7", "fd00:20::7"):
        assert full(pods[0], address), f"from the other host to {address}"
    for address in ("10.20.0.7", "fd00:20::7"):
        assert pings(pods[1], address), f"on the same host to {address}"


@pytest.mark.parametrize("settings", ON_VLANS)
def test_frames_of_a_network_on_a_vlan_are_tagged(lab: Lab, settings: dict[str, Any]) -> None:
    """A pod of the same address range on the bare interface is in another segment."""
    host_a, host_b = lab.hosts("host-a", "host-b")
    bare = settings | {"vlan": None}
    pods = []
    for number, (host, asked) in enumerate([(host_a, settings), (host_b, bare)], 5):
        driver = driver_of(asked, host)
        driver.ensure("prod", defined(asked), ())
        pods.append(lab.netns(f"pod-{number}"))
        attach(driver, pods[-1], endpoint(number), asked)
    assert not pings(pods[0], "10.20.0.6", wait_s=1)
    assert "id 100" in run(host_a, "ip", "-details", "link", "show", "eth1.100")


@pytest.mark.parametrize("settings", ON_VLANS)
def test_the_vlans_link_goes_with_its_network(lab: Lab, settings: dict[str, Any]) -> None:
    (host,) = lab.hosts("host")
    before = links_of(host)
    driver = driver_of(settings, host)
    driver.ensure("prod", defined(settings), ())
    pod = lab.netns("pod")
    attach(driver, pod, endpoint(5), settings)
    driver.detach(attachment(pod, endpoint(5), settings))
    assert links_of(pod) == {"lo"}
    assert "eth1.100" in links_of(host)
    driver.remove("prod", defined(settings))
    driver.remove("prod", defined(settings))
    assert links_of(host) == before


@pytest.mark.parametrize("settings", ON_VLANS[:2])
def test_the_vlans_link_stays_while_another_networks_pods_are_on_it(
    lab: Lab, settings: dict[str, Any]
) -> None:
    """They are in namespaces of their own, where the host does not see them."""
    (host,) = lab.hosts("host")
    driver = driver_of(settings, host)
    for network in ("prod", "test"):
        driver.ensure(network, defined(settings), ())
    pod = lab.netns("pod")
    attach(driver, pod, endpoint(5), settings)
    driver.remove("test", defined(settings))
    assert "eth1.100" in links_of(host)
    assert "eth0" in links_of(pod)
    driver.detach(attachment(pod, endpoint(5), settings))
    driver.remove("prod", defined(settings))
    assert "eth1.100" not in links_of(host)


@needs_link("macvlan", "vlan")
def test_links_of_other_namespaces_with_the_vlans_index_do_not_keep_it(lab: Lab) -> None:
    """A veth's other end is told by its index in its own namespace."""
    settings = MACVLAN | ON_VLAN
    (host,) = lab.hosts("host")
    driver = driver_of(settings, host)
    driver.ensure("prod", defined(settings), ())
    vlan = link(host, "eth1.100")
    assert vlan is not None
    index, there = str(vlan.index), lab.name("host")
    pod = lab.netns("pod")
    run(
        pod,
        "ip",
        "link",
        "add",
        "eth0",
        "index",
        index,
        "type",
        "veth",
        "peer",
        "name",
        "mo1",
        "netns",
        there,
    )
    assert f"mo1@if{index}" in run(host, "ip", "link", "show", "mo1")
    driver.remove("prod", defined(settings))
    assert "eth1.100" not in links_of(host)


@needs_link("macvlan", "vlan")
def test_the_vlans_link_of_somebody_else_is_used_and_stays(lab: Lab) -> None:
    settings = MACVLAN | ON_VLAN
    (host,) = lab.hosts("host")
    run(host, "ip", "link", "add", "eth1.100", "link", "eth1", "type", "vlan", "id", "100")
    driver = driver_of(settings, host)
    driver.ensure("prod", defined(settings), ())
    driver.remove("prod", defined(settings))
    assert "eth1.100" in links_of(host)


@needs_link("macvlan", "vlan")
@pytest.mark.parametrize("other", [("vlan", "id", "200"), ("macvlan",)], ids=lambda other: str(other[0]))
def test_another_link_in_the_vlans_place_is_refused(lab: Lab, other: Collection[str]) -> None:
    settings = MACVLAN | ON_VLAN
    (host,) = lab.hosts("host")
    run(host, "ip", "link", "add", "eth1.100", "link", "eth1", "type", *other)
    with pytest.raises(ServiceError, match=r"eth1\.100") as caught:
        driver_of(settings, host).ensure("prod", defined(settings), ())
    assert caught.value.code == Code.LINK_CONFLICT


@needs_link("macvlan", "vlan")
def test_the_node_is_no_host_of_a_vlans_network(lab: Lab) -> None:
    """Otherwise any router there, which a pod may be, gives the node an address and a way out."""
    settings = MACVLAN | ON_VLAN
    (host,) = lab.hosts("host")
    driver_of(settings, host).ensure("prod", defined(settings), ())
    assert "inet6" not in run(host, "ip", "address", "show", "dev", "eth1.100")
    assert run(host, "sysctl", "-n", "net.ipv6.conf.eth1/100.disable_ipv6").strip() == "1"


@needs_link("macvlan", "vlan")
def test_the_vlans_link_follows_its_interface_to_a_larger_mtu(lab: Lab) -> None:
    settings = MACVLAN | ON_VLAN
    (host,) = lab.hosts("host", mtu=1500)
    driver = driver_of(settings, host)
    driver.ensure("prod", defined(settings), ())
    run(host, "ip", "link", "set", "eth1", "mtu", "9000")
    driver.ensure("prod", defined(settings, mtu=9000), ())
    made = link(host, "eth1.100")
    assert made is not None
    assert made.mtu == 9000


@needs_link("macvlan", "ipvlan")
@pytest.mark.parametrize(("first", "second"), [(MACVLAN, IPVLAN), (IPVLAN, MACVLAN)])
def test_one_interface_carries_one_kind_and_the_other_is_refused(
    lab: Lab, first: dict[str, Any], second: dict[str, Any]
) -> None:
    (host,) = lab.hosts("host")
    driver = driver_of(first, host)
    driver.ensure("prod", defined(first), ())
    attach(driver, lab.netns("pod"), endpoint(5), first)
    with pytest.raises(ServiceError, match="another kind") as caught:
        driver_of(second, host).ensure("test", defined(second), ())
    assert caught.value.code == Code.UPLINK_IN_USE


@pytest.mark.parametrize("settings", CHILDREN)
def test_an_address_that_was_cut_works_elsewhere_at_once(lab: Lab, settings: dict[str, Any]) -> None:
    """On the same node, where the old interface is still there, and on the other one."""
    hosts = lab.hosts("host-a", "host-b")
    peer, old, new, other = (lab.netns(name) for name in ("peer", "old", "new", "other"))
    drivers = [driver_of(settings, host) for host in hosts]
    for driver in drivers:
        driver.ensure("prod", defined(settings), ())
    attach(drivers[1], peer, endpoint(6), settings)
    held, planned = old, endpoint(5)
    attach(drivers[0], old, planned, settings)
    for pod, driver, host_link in ((new, drivers[0], "mo-new"), (other, drivers[1], "mo-other")):
        for address in ("10.20.0.5", "fd00:20::5"):
            assert pings(peer, address)
        drivers[0].cut(attachment(held, planned, settings))
        assert not pings(peer, "10.20.0.5", wait_s=1)
        held, planned = pod, replace(endpoint(5), host_link=host_link)
        attach(driver, pod, planned, settings)
    for address in ("10.20.0.5", "fd00:20::5"):
        assert pings(peer, address)


@pytest.mark.parametrize("settings", CHILDREN)
def test_a_refusal_halfway_leaves_no_interface(lab: Lab, settings: dict[str, Any]) -> None:
    (host,) = lab.hosts("host")
    pod = lab.netns("pod")
    driver = driver_of(settings, host)
    driver.ensure("prod", defined(settings), ())
    astray = PlannedRoute(ip_interface("0.0.0.0/0").network, ip_address("192.0.2.1"))
    with pytest.raises(ServiceError) as caught:
        attach(driver, pod, replace(endpoint(5), routes=(astray,)), settings)
    assert caught.value.code == Code.KERNEL_REFUSED
    assert links_of(pod) == {"lo"}
    made = attach(driver, pod, endpoint(5), settings)
    with pytest.raises(ServiceError) as caught:
        attach(driver, pod, endpoint(6), settings)
    assert caught.value.code == Code.INTERFACE_EXISTS
    assert made.addresses[0] in driver.inspect(attachment(pod, endpoint(5), settings), pod).addresses
