"""Endpoints of pods in real network namespaces: complete, announced, cut, removed."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from node_worker.netlink import simulated
from node_worker.netlink.batch import RoutingSocket
from node_worker.netlink.bridge import ensure_bridge
from node_worker.netlink.namespace import Netns
from node_worker.netlink.veth import (
    cut_veth,
    has_link,
    link_names,
    look_inside,
    look_outside,
    prepare_veth,
    remove_veth,
)
from node_worker.plan import PlannedRoute
from schemas.errors import Code, ServiceError
from tests.node_lab import Lab, attach_veth, bridge, link, links_of, pings, plan, run

pytestmark = pytest.mark.netns


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        made = Lab(stack)
        yield made
    assert [name for name in simulated.netns_names() if name.startswith(made.name(""))] == []


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
    assert run(pod, "sysctl", "-n", "net.ipv4.conf.eth0.arp_notify").strip() == "1"
    assert "inet6" not in run(host, "ip", "address", "show", plan(5).host_link)


@pytest.mark.parametrize("order", [("eth0", "eth1", "net1"), ("net1", "eth1", "eth0")])
def test_a_pod_on_several_networks_leaves_by_eth0_whichever_came_first(
    lab: Lab, order: tuple[str, ...]
) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    numbers = {name: number for number, name in enumerate(order, 5)}
    for name, number in numbers.items():
        attach_veth(host, pod, plan(number, name, ipv6=True))
    for outside in ("192.0.2.9", "2001:db8::9"):
        assert "dev eth0" in run(pod, "ip", "route", "get", outside)
    remove_veth(host, plan(numbers["eth0"]).host_link)
    for outside in ("192.0.2.9", "2001:db8::9"):
        assert "via" in run(pod, "ip", "route", "get", outside), "the others have gateways too"


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


def test_a_pair_is_prepared_when_its_port_forwards_and_not_before(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel lets a port forward a moment after link up, and much later where it has a lot to do: what
    the pod says until then is lost, and it says once where it is.
    """
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    forwards, said = RoutingSocket.forwards, list[bool]()

    def looked(kernel: RoutingSocket, name: str) -> bool | None:
        said.append(len(said) > 2 and forwards(kernel, name) is True)
        return said[-1]

    monkeypatch.setattr(RoutingSocket, "forwards", looked)
    with closing(prepare_veth(host, pod, plan(5))):
        assert said == [False, False, False, True]


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


def test_the_hosts_end_goes_with_the_pods_namespace(lab: Lab) -> None:
    """What `node_worker.vanished` and GC take for evidence that a pod is gone."""
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    attach_veth(host, pod, plan(5))
    assert plan(5).host_link in link_names(host)
    simulated.remove_netns(lab.name("pod"))
    assert plan(5).host_link in link_names(host), "somebody has it open: the path alone proves nothing"
    pod.close()
    until = time.monotonic() + 10
    while plan(5).host_link in link_names(host):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_an_endpoint_has_become_is_seen(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    attach_veth(host, pod, plan(5, ipv6=True))
    outer, port_of = look_outside(host, plan(5).host_link)
    inner, addresses, routes = look_inside(pod, "eth0")
    assert outer is not None
    assert inner is not None
    assert (outer.up, port_of, inner.up, inner.mac) == (True, "mo-prod", True, "0a:58:0a:14:00:05")
    assert set(plan(5, ipv6=True).addresses) <= set(addresses)
    assert {(route.destination, route.via) for route in plan(5, ipv6=True).routes} <= set(routes)

    run(pod, "ip", "address", "del", "10.20.0.5/24", "dev", "eth0")
    run(pod, "ip", "route", "add", "192.0.2.0/24", "dev", "eth0")
    run(host, "ip", "link", "set", plan(5).host_link, "nomaster")
    _, addresses, routes = look_inside(pod, "eth0")
    assert ip_interface("10.20.0.5/24") not in addresses
    assert (ip_network("0.0.0.0/0"), ip_address("10.20.0.1")) not in routes
    assert (ip_network("192.0.2.0/24"), None) in routes
    assert look_outside(host, plan(5).host_link)[1] is None

    remove_veth(host, plan(5).host_link)
    assert look_outside(host, plan(5).host_link) == (None, None)
    assert look_inside(pod, "eth0") == (None, [], [])


def test_a_pod_without_ipv6_addresses_of_its_own_has_none_at_all(lab: Lab) -> None:
    host, pod, other = lab.netns("host"), lab.netns("pod"), lab.netns("other")
    ensure_bridge(host, bridge())
    attach_veth(host, pod, plan(5))
    attach_veth(host, other, plan(6, ipv6=True))
    assert "inet6" not in run(pod, "ip", "address", "show", "eth0")
    assert "fe80::858:aff:fe14:6/64" in run(other, "ip", "address", "show", "eth0"), "of its MAC"
