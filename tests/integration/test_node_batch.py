"""What `netlink.batch` encodes, read back with pyroute2's own decoder, and what the kernel makes of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from node_worker.netlink.batch import (
    End,
    Message,
    RoutingSocket,
    add_address,
    add_route,
    change_link,
    make_veth,
    remove_link,
)
from node_worker.netlink.bridge import ensure_bridge
from node_worker.netlink.session import Refused
from node_worker.netlink.veth import prepare_veth
from tests.node_lab import Lab, bridge, link, links_of, plan

MAC = "0a:58:0a:14:00:05"


def read(message: Message, kind: Any) -> Any:
    """As pyroute2 reads it: it wants a header in front, as the kernel does."""
    size = 16 + len(message.body)
    header = size.to_bytes(4, "little") + message.kind.to_bytes(2, "little") + bytes(10)
    decoded = kind(header + message.body)
    decoded.decode()
    return decoded


def test_a_pair_is_what_was_asked_for() -> None:
    message = make_veth(End("mo1", 1400, "0e:00:00:00:00:01"), End("eth0", 1300), 7, master=3)
    decoded = read(message, ifinfmsg)
    assert (decoded.get_attr("IFLA_IFNAME"), decoded.get_attr("IFLA_MTU")) == ("mo1", 1400)
    assert decoded.get_attr("IFLA_ADDRESS") == "0e:00:00:00:00:01"
    assert decoded.get_attr("IFLA_MASTER") == 3
    assert not decoded["flags"] & 1, "down"
    info = decoded.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert (peer.get_attr("IFLA_IFNAME"), peer.get_attr("IFLA_MTU")) == ("eth0", 1300)
    assert peer.get_attr("IFLA_NET_NS_FD") == 7
    assert not peer["flags"] & 1, "down"


def test_a_change_says_only_what_changes() -> None:
    up = read(change_link(9, "eth0", up=True), ifinfmsg)
    down = read(change_link(9, "eth0", up=False), ifinfmsg)
    assert [(one["index"], one["flags"], one["change"]) for one in (up, down)] == [(9, 1, 1), (9, 0, 1)]
    assert up["attrs"] == []
    named = read(change_link(9, "eth0", mac=MAC, mtu=1280), ifinfmsg)
    assert (named.get_attr("IFLA_ADDRESS"), named.get_attr("IFLA_MTU")) == (MAC, 1280)
    assert named["change"] == 0
    assert read(remove_link(9, "eth0"), ifinfmsg)["index"] == 9


@pytest.mark.parametrize(
    ("text", "family", "more"),
    [
        ("10.20.0.5/24", 2, {"IFA_BROADCAST": "10.20.0.255"}),
        ("fd00:20::5/64", 10, {"IFA_FLAGS": 2}),
    ],
)
def test_an_address(text: str, family: int, more: dict[str, Any]) -> None:
    address = ip_interface(text)
    decoded = read(add_address(4, address), ifaddrmsg)
    assert (decoded["family"], decoded["prefixlen"]) == (family, address.network.prefixlen)
    assert decoded["index"] == 4
    assert decoded.get_attr("IFA_LOCAL") == decoded.get_attr("IFA_ADDRESS") == str(address.ip)
    assert {name: decoded.get_attr(name) for name in more} == more


@pytest.mark.parametrize(
    ("destination", "via", "family", "shown"),
    [
        ("0.0.0.0/0", "10.20.0.1", 2, None),
        ("192.0.2.0/24", "10.20.0.1", 2, "192.0.2.0"),
        ("::/0", "fd00:20::1", 10, None),
    ],
)
def test_a_route(destination: str, via: str, family: int, shown: str | None) -> None:
    network = ip_network(destination)
    decoded = read(add_route(4, network, ip_address(via)), rtmsg)
    assert (decoded["family"], decoded["dst_len"], decoded["table"]) == (family, network.prefixlen, 254)
    assert decoded.get_attr("RTA_DST") == shown
    assert (decoded.get_attr("RTA_GATEWAY"), decoded.get_attr("RTA_OIF")) == (via, 4)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(stack)


@pytest.mark.netns
def test_the_first_refusal_is_told_in_the_kernels_words_and_what_may_fail_is_not(lab: Lab) -> None:
    host = lab.netns("host")
    with host.entered(), RoutingSocket() as kernel:
        here, nowhere = change_link(1, "lo", up=True), remove_link(4711, "gone")
        assert kernel.do([here, nowhere, here]) == [True, False, True]
        broken = add_address(4711, ip_interface("10.20.0.5/24"))
        with pytest.raises(Refused, match=r"add address 10\.20\.0\.5/24") as caught:
            kernel.do([here, broken, add_address(4712, ip_interface("10.20.0.6/24"))])
    assert caught.value.fields["errno"] == "ENODEV"


@pytest.mark.netns
def test_a_port_forwards_once_its_other_end_is_up(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    prepared = prepare_veth(host, pod, plan(5))
    port, inner = link(host, plan(5).host_link), link(pod, "eth0")
    assert port is not None
    assert inner is not None
    with host.entered(), RoutingSocket() as kernel, pod.entered(), RoutingSocket() as inside:
        inside.do([change_link(inner.index, "eth0", up=False)])
        until(lambda: kernel.forwards(port.name) is False)
        inside.do([change_link(inner.index, "eth0", up=True)])
        until(lambda: kernel.forwards(port.name) is True)
        assert kernel.forwards("lo") is None, "no port"
        assert kernel.forwards("mo-none") is None, "no link"
    prepared.close()


@pytest.mark.netns
def test_a_prepared_pair_that_cannot_be_completed_is_gone(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    before = links_of(host), links_of(pod)
    prepared = prepare_veth(host, pod, plan(5))
    with host.entered(), RoutingSocket() as kernel:
        found = link(host, plan(5).host_link)
        assert found is not None
        kernel.do([remove_link(found.index, found.name)])
    with pytest.raises(Refused):
        prepared.complete(plan(5))
    prepared.close()
    assert (links_of(host), links_of(pod)) == before
