"""Bridges, endpoints and simulated hosts in real network namespaces."""

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from node_worker.host import Host
from node_worker.netlink import simulated
from node_worker.netlink.bridge import Bridge, ensure_bridge, remove_bridge
from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import Link, inside
from node_worker.netlink.veth import attach_veth, cut_veth, has_link, remove_veth
from node_worker.plan import EndpointPlan, PlannedRoute
from schemas.errors import Code, ServiceError

pytestmark = pytest.mark.netns


class Lab:
    """Namespaces with names of their own, gone when the test is over."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._tag = f"mot-{os.getpid()}-{secrets.token_hex(2)}"
        self._pods = 0

    def name(self, what: str) -> str:
        return f"{self._tag}-{what}"

    def netns(self, what: str) -> Netns:
        """A new namespace."""
        name = self.name(what)
        simulated.create_netns(name)
        self._stack.callback(simulated.remove_netns, name)
        return self._stack.enter_context(Netns(str(simulated.netns_path(name))))

    def hosts(self, *names: str, mtu: int = 1500) -> list[Netns]:
        """New hosts that an underlay joins by their eth1."""
        hosts = [self.netns(name) for name in names]
        underlay = self.name("underlay")
        simulated.connect_hosts(underlay, [self.name(name) for name in names], mtu=mtu)
        self._stack.callback(simulated.remove_netns, underlay)
        return hosts


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        made = Lab(stack)
        yield made
    assert [name for name in simulated.netns_names() if name.startswith(made.name(""))] == []


def bridge(network: str = "prod", uplink: str | None = None, mtu: int = 1500) -> Bridge:
    return Bridge(f"mo-{network}", network, mtu, uplink)


def plan(number: int, ifname: str = "eth0", *, ipv6: bool = False) -> EndpointPlan:
    addresses = [ip_interface(f"10.20.0.{number}/24")]
    routes = [PlannedRoute(ip_network("0.0.0.0/0"), ip_address("10.20.0.1"))]
    if ipv6:
        addresses.append(ip_interface(f"fd00:20::{number:x}/64"))
        routes.append(PlannedRoute(ip_network("::/0"), ip_address("fd00:20::1")))
    return EndpointPlan(
        network="prod",
        bridge="mo-prod",
        host_link=f"mo{number:013x}",
        host_mac=f"0e:00:00:00:00:{number:02x}",
        ifname=ifname,
        mac=f"0a:58:0a:14:00:{number:02x}",
        mtu=1400,
        addresses=tuple(addresses),
        routes=tuple(routes),
    )


def link(netns: Netns, name: str) -> Link | None:
    with inside(netns) as links:
        return links.find(name)


def links_of(netns: Netns) -> set[str]:
    with inside(netns) as links:
        return {item.name for item in links.all()}


def run(netns: Netns, *command: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net={netns.path}", *command], capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout if done.returncode == 0 else ""


def pings(netns: Netns, address: str, wait_s: int = 2) -> bool:
    return bool(run(netns, "ping", "-n", "-c", "1", "-W", str(wait_s), address))


def test_a_network_gets_a_bridge_that_says_whose_it_is(lab: Lab) -> None:
    host = lab.netns("host")
    ensure_bridge(host, bridge(mtu=1400))
    made = link(host, "mo-prod")
    assert made is not None
    assert (made.kind, made.alias, made.mtu, made.up) == ("bridge", "moorage network prod", 1400, True)
    details = run(host, "ip", "-details", "link", "show", "mo-prod")
    for setting in ("forward_delay 0", "stp_state 0", "mcast_snooping 0"):
        assert setting in details


def test_making_a_network_twice_changes_nothing(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    ensure_bridge(host, bridge(uplink="eth1"))
    before = link(host, "mo-prod"), link(host, "eth1")
    ensure_bridge(host, bridge(uplink="eth1"))
    assert (link(host, "mo-prod"), link(host, "eth1")) == before


def test_the_bridge_keeps_its_mac_when_pods_come_and_go(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    before = link(host, "mo-prod")
    attach_veth(host, pod, plan(5))
    remove_veth(host, plan(5).host_link)
    after = link(host, "mo-prod")
    assert before is not None
    assert after is not None
    assert before.mac == after.mac


def test_a_removed_network_leaves_its_uplink_free(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    ensure_bridge(host, bridge(uplink="eth1"))
    remove_bridge(host, bridge(uplink="eth1"))
    remove_bridge(host, bridge(uplink="eth1"))
    uplink = link(host, "eth1")
    assert link(host, "mo-prod") is None
    assert uplink is not None
    assert uplink.master is None
    ensure_bridge(host, bridge("test", uplink="eth1"))


def test_a_missing_uplink_is_named_with_those_there_are_and_no_bridge_is_made(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    with pytest.raises(ServiceError, match=r"no interface eth7.*free here:.*eth1") as caught:
        ensure_bridge(host, bridge(uplink="eth7"))
    assert caught.value.code == Code.UPLINK_MISSING
    assert link(host, "mo-prod") is None


def test_an_uplink_of_another_network_is_refused_and_that_network_is_named(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    ensure_bridge(host, bridge("test", uplink="eth1"))
    with pytest.raises(ServiceError, match=r"mo-test \(moorage network test\)") as caught:
        ensure_bridge(host, bridge("prod", uplink="eth1"))
    assert caught.value.code == Code.UPLINK_IN_USE
    assert caught.value.fields["bridge"] == "mo-test"
    assert link(host, "mo-prod") is None


def test_an_uplink_with_the_nodes_own_addresses_is_refused(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    run(host, "ip", "address", "add", "192.0.2.7/24", "dev", "eth1")
    with pytest.raises(ServiceError, match=r"192\.0\.2\.7/24") as caught:
        ensure_bridge(host, bridge(uplink="eth1"))
    assert caught.value.code == Code.UPLINK_IN_USE
    assert pings(host, "192.0.2.7")


def test_an_uplink_with_a_smaller_mtu_is_refused_with_both_figures(lab: Lab) -> None:
    (host,) = lab.hosts("host", mtu=1400)
    with pytest.raises(ServiceError, match=r"MTU 1500 and uplink eth1 has 1400") as caught:
        ensure_bridge(host, bridge(uplink="eth1"))
    assert caught.value.code == Code.LINK_CONFLICT


@pytest.mark.parametrize("alias", ["somebody else's", None])
def test_a_foreign_link_in_the_bridges_place_is_neither_taken_nor_removed(
    lab: Lab, alias: str | None
) -> None:
    host = lab.netns("host")
    run(host, "ip", "link", "add", "mo-prod", "type", "bridge")
    if alias is None:  # unnamed, but in use
        run(host, "ip", "link", "add", "port", "master", "mo-prod", "type", "veth")
    else:
        run(host, "ip", "link", "set", "mo-prod", "alias", alias)
    with pytest.raises(ServiceError) as caught:
        ensure_bridge(host, bridge())
    assert caught.value.code == Code.LINK_CONFLICT
    remove_bridge(host, bridge())
    assert link(host, "mo-prod") is not None


def test_a_bridge_that_a_killed_worker_had_not_named_yet_is_finished(lab: Lab) -> None:
    host = lab.netns("host")
    run(host, "ip", "link", "add", "mo-prod", "type", "bridge")
    ensure_bridge(host, bridge())
    made = link(host, "mo-prod")
    assert made is not None
    assert made.alias == "moorage network prod"


def test_an_endpoint_is_complete(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    attach_veth(host, pod, plan(5, ipv6=True))
    inner, outer, master = link(pod, "eth0"), link(host, plan(5).host_link), link(host, "mo-prod")
    assert inner is not None
    assert outer is not None
    assert master is not None
    assert (inner.mac, inner.mtu, inner.up) == ("0a:58:0a:14:00:05", 1400, True)
    assert (outer.master, outer.mtu, outer.up, outer.forwarding) == (master.index, 1400, True, True)
    addresses = run(pod, "ip", "-oneline", "address", "show", "eth0")
    assert "10.20.0.5/24 brd 10.20.0.255" in addresses
    assert "fd00:20::5/64" in addresses
    assert "tentative" not in addresses.split("fd00:20::5/64")[1].split("\n")[0]
    assert "default via 10.20.0.1" in run(pod, "ip", "route")
    assert "default via fd00:20::1" in run(pod, "ip", "-6", "route")
    assert pings(pod, "127.0.0.1"), "loopback is up"
    assert "inet6" not in run(host, "ip", "address", "show", plan(5).host_link)


def test_pods_on_two_hosts_reach_each_other_over_the_underlay(lab: Lab) -> None:
    hosts = lab.hosts("host-a", "host-b")
    pods = [lab.netns("pod-a"), lab.netns("pod-b")]
    for number, (host, pod) in enumerate(zip(hosts, pods, strict=True), 5):
        ensure_bridge(host, bridge(uplink="eth1"))
        attach_veth(host, pod, plan(number, ipv6=True))
    assert pings(pods[0], "10.20.0.6")
    assert pings(pods[1], "fd00:20::5")


def test_a_moved_pod_is_reached_at_once_by_a_peer_that_knew_it_before(lab: Lab) -> None:
    """Its MAC stays the same, so only its own announcement tells the switches where it is now."""
    hosts = lab.hosts("host-a", "host-b")
    old, new, peer = lab.netns("old"), lab.netns("new"), lab.netns("peer")
    for host in hosts:
        ensure_bridge(host, bridge(uplink="eth1"))
    attach_veth(hosts[0], peer, plan(6, ipv6=True))
    attach_veth(hosts[1], old, plan(5, ipv6=True))
    assert pings(peer, "10.20.0.5")
    assert pings(peer, "fd00:20::5")
    # It moves to its peer's host: without an announcement frames for it still leave by the uplink.
    cut_veth(hosts[1], plan(5).host_link)
    remove_veth(hosts[1], plan(5).host_link)
    attach_veth(hosts[0], new, plan(5, ipv6=True))
    assert pings(peer, "10.20.0.5")
    assert pings(peer, "fd00:20::5")
    assert "0a:58:0a:14:00:05" in run(peer, "ip", "neighbour")
    # And away again.
    cut_veth(hosts[0], plan(5).host_link)
    remove_veth(hosts[0], plan(5).host_link)
    again = lab.netns("again")
    attach_veth(hosts[1], again, plan(5, ipv6=True))
    assert pings(peer, "10.20.0.5")
    assert pings(peer, "fd00:20::5")


def test_ten_moves_in_a_row_are_all_announced(lab: Lab) -> None:
    hosts = lab.hosts("host-a", "host-b")
    peer = lab.netns("peer")
    for host in hosts:
        ensure_bridge(host, bridge(uplink="eth1"))
    attach_veth(hosts[0], peer, plan(6))
    for move in range(10):
        pod, host = lab.netns(f"pod-{move}"), hosts[move % 2]
        attach_veth(host, pod, plan(5))
        assert pings(peer, "10.20.0.5", wait_s=1), f"move {move}"
        cut_veth(host, plan(5).host_link)
        remove_veth(host, plan(5).host_link)


def test_a_cut_endpoint_is_heard_no_more(lab: Lab) -> None:
    host, one, other = lab.netns("host"), lab.netns("one"), lab.netns("other")
    ensure_bridge(host, bridge())
    attach_veth(host, one, plan(5))
    attach_veth(host, other, plan(6))
    assert pings(one, "10.20.0.6")
    cut_veth(host, plan(6).host_link)
    assert not pings(one, "10.20.0.6", wait_s=1)


def test_an_endpoint_is_removed_twice_and_after_its_pod(lab: Lab) -> None:
    host = lab.netns("host")
    ensure_bridge(host, bridge())
    attach_veth(host, lab.netns("pod"), plan(5))
    remove_veth(host, plan(5).host_link)
    cut_veth(host, plan(5).host_link)
    remove_veth(host, plan(5).host_link)
    with Lab.netns(lab, "gone") as pod:
        attach_veth(host, pod, plan(6))
    simulated.remove_netns(lab.name("gone"))
    cut_veth(host, plan(6).host_link)
    remove_veth(host, plan(6).host_link)
    assert plan(6).host_link not in links_of(host)


def test_an_interface_that_exists_in_the_pod_is_refused_and_left_alone(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    attach_veth(host, pod, plan(5))
    assert has_link(pod, "eth0")
    with pytest.raises(ServiceError) as caught:
        attach_veth(host, pod, plan(6))
    assert caught.value.code == Code.INTERFACE_EXISTS
    assert "10.20.0.5/24" in run(pod, "ip", "address", "show", "eth0")
    assert plan(6).host_link not in links_of(host)


def test_a_second_interface_of_a_pod_goes_beside_the_first(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    attach_veth(host, pod, plan(5))
    attach_veth(host, pod, replace(plan(6, "net1"), routes=()))
    assert {"eth0", "net1"} <= links_of(pod)


def test_a_refusal_halfway_leaves_no_half_endpoint(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    outside = PlannedRoute(ip_network("0.0.0.0/0"), ip_address("192.0.2.1"))
    before = links_of(host), links_of(pod)
    with pytest.raises(ServiceError, match=r"192\.0\.2\.1") as caught:
        attach_veth(host, pod, replace(plan(5), routes=(outside,)))
    assert (caught.value.code, caught.value.fields["errno"]) == (Code.KERNEL_REFUSED, "ENETUNREACH")
    assert (links_of(host), links_of(pod)) == before


def test_without_its_bridge_an_endpoint_may_be_tried_again(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    with pytest.raises(ServiceError) as caught:
        attach_veth(host, pod, plan(5))
    assert (caught.value.code, caught.value.retryable) == (Code.NETWORK_NOT_READY, True)


def test_a_pod_without_ipv6_by_default_gets_its_ipv6_address(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    run(pod, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
    ensure_bridge(host, bridge())
    attach_veth(host, pod, plan(5, ipv6=True))
    assert "fd00:20::5/64" in run(pod, "ip", "address", "show", "eth0")


def test_the_thread_is_in_its_own_namespace_again_also_after_a_failure(lab: Lab) -> None:
    host = lab.netns("host")
    with pytest.raises(ServiceError):
        ensure_bridge(host, bridge(uplink="eth7"))
    parents = Path(f"/proc/{os.getppid()}/ns/net").readlink()
    assert Path("/proc/thread-self/ns/net").readlink() == parents


def test_endpoints_of_different_pods_are_made_side_by_side(lab: Lab) -> None:
    host = lab.netns("host")
    ensure_bridge(host, bridge())
    pods = [lab.netns(f"pod-{number}") for number in range(12)]
    failures: list[BaseException] = []

    def attach(number: int, pod: Netns) -> None:
        try:
            attach_veth(host, pod, plan(number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attach, args=(number, pod)) for number, pod in enumerate(pods, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert pings(pods[0], "10.20.0.21")


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "fifo", "device", "other namespace"])
def test_a_path_that_is_no_network_namespace_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "netns"
    match kind:
        case "file":
            path.write_text("")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)  # opening it would wait for a writer
        case "device":
            path = Path("/dev/null")
        case "other namespace":
            path = Path("/proc/self/ns/mnt")
    with pytest.raises(ServiceError) as caught:
        Netns(str(path))
    assert caught.value.code == Code.NETNS_UNUSABLE
    assert str(path) in caught.value.message


def test_the_nodes_own_namespaces_are_no_pods(lab: Lab) -> None:
    wired = lab.netns("host")
    with Host(Path(wired.path)) as host:
        for path in ("/proc/self/ns/net", wired.path):
            with pytest.raises(ServiceError, match="the node's own") as caught:
                host.open_pod(path)
            assert caught.value.code == Code.NETNS_UNUSABLE
        with host.open_pod(lab.netns("pod").path) as pod:
            assert not host.has_link(pod, "eth0")


def test_a_simulated_host_is_made_once_and_removed_twice(lab: Lab) -> None:
    name = lab.name("made")
    simulated.create_netns(name)
    try:
        assert name in simulated.netns_names()
        with pytest.raises(ServiceError, match="EEXIST"):
            simulated.create_netns(name)
    finally:
        simulated.remove_netns(name)
    simulated.remove_netns(name)
    assert name not in simulated.netns_names()


def test_an_underlay_that_cannot_be_finished_leaves_nothing(lab: Lab) -> None:
    host = lab.netns("host")
    with pytest.raises(ServiceError):
        simulated.connect_hosts(lab.name("underlay"), [lab.name("host"), lab.name("nosuch")])
    assert lab.name("underlay") not in simulated.netns_names()
    limit = time.monotonic() + 5  # the kernel takes a namespace's links down a moment after its end
    while "eth1" in links_of(host):
        assert time.monotonic() < limit
