"""Network namespaces for tests: hosts on an underlay, pods, and what can be seen and reached inside them."""

import os
import secrets
import subprocess
from contextlib import ExitStack, closing
from ipaddress import ip_address, ip_interface, ip_network

from node_worker.netlink import simulated
from node_worker.netlink.bridge import Bridge
from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import Link, inside
from node_worker.netlink.veth import prepare_veth
from node_worker.plan import EndpointPlan, PlannedRoute


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


def attach_veth(host: Netns, pod: Netns, plan: EndpointPlan) -> tuple[PlannedRoute, ...]:
    """An endpoint in one go."""
    with closing(prepare_veth(host, pod, plan)) as prepared:
        return prepared.complete(plan)


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
