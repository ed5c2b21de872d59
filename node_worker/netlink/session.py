"""A conversation with the kernel's routing socket in one namespace: the only user of pyroute2.

pyroute2 0.9 runs an event loop of its own for each socket; it is given a plain one, because the process may
have another kind as its default. What the kernel refuses becomes `Refused`.
"""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from node_worker.netlink.namespace import Netns
from node_worker.netlink.sysctls import writable
from node_worker.plan import NETWORK_LINKS, KernelRoute
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress, IPNetwork

_IFF_UP = 1
_IFF_LOOPBACK = 8
_IFF_LOWER_UP = 1 << 16  # linux/if.h
_EVERYBODY = "00:00:00:00:00:00"  # bridge(8): where frames go whose destination is not known
_IFA_F_NODAD = 2  # linux/if_addr.h
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253  # linux/rtnetlink.h
_RTNH_F_ONLINK = 4
_RT_TABLE_MAIN = 254  # linux/rtnetlink.h
_FORWARDING = 3  # BR_STATE_FORWARDING, linux/if_bridge.h
_ADVICE = {
    errno.EPERM: "run the node worker as root with CAP_NET_ADMIN and CAP_SYS_ADMIN",
    errno.EACCES: "run the node worker as root, with a writable /proc/sys",
    errno.EROFS: "run the node worker with a writable /proc/sys; in a container, mount the host's "
    "/proc/sys/net at /host/proc/sys/net",
    errno.EOPNOTSUPP: "this kernel lacks that kind of link: load its module (modprobe)",
}


class Refused(ServiceError):
    """`kernel_refused`: which operation, and which errno."""

    def __init__(self, operation: str, number: int, detail: str = "") -> None:
        name = errno.errorcode.get(number, str(number))
        advice = _ADVICE.get(number, "`ip -details link` and the kernel's log may say more")
        told = f"{name}, {detail}" if detail else name
        super().__init__(
            Code.KERNEL_REFUSED,
            f"the kernel refused to {operation} ({told}): {advice}",
            operation=operation,
            errno=name,
        )
        self.errno = number


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says of a link.

    `master` is the index of the bridge that has it as a port, `lower` that of the link it is made on, if that
    is in the same namespace: in another one the index is another link's. Without `carrier` nothing passes.
    """

    index: int
    name: str
    kind: str | None
    mac: str | None
    mtu: int
    alias: str | None
    master: int | None
    lower: int | None
    up: bool
    carrier: bool
    loopback: bool
    forwarding: bool


class Session:
    """Verbs on the links of one namespace. Names the operation in every error."""

    def __init__(self, route: IPRoute) -> None:
        self._route = route

    def find(self, name: str) -> Link | None:
        """The link of that name."""
        return self._get(ifname=name)

    def at(self, index: int) -> Link | None:
        """The link of that index."""
        return self._get(index=index)

    def all(self) -> list[Link]:
        """Every link."""
        with _translated("list the links"):
            return [_link(message) for message in self._route.link("dump")]

    def add(self, name: str, kind: str, **attributes: Any) -> None:
        """Make a link. Raises `Refused`, with EEXIST where its name, or its peer's, is taken."""
        with _translated(f"make {kind} {name}"):
            self._route.link("add", ifname=name, kind=kind, **attributes)

    def change(self, name: str, **attributes: Any) -> None:
        """Change a link that must exist."""
        told = ", ".join(attributes)
        with _translated(f"set {told} of {name}"):
            self._route.link("set", ifname=name, **attributes)

    def remove(self, name: str) -> None:
        """Remove a link; one that is away already is fine."""
        try:
            with _translated(f"remove {name}"):
                self._route.link("del", ifname=name)
        except Refused as refusal:
            if refusal.errno != errno.ENODEV:
                raise

    def addresses(self, index: int) -> list[IPv4Interface | IPv6Interface]:
        """The addresses on a link."""
        with _translated(f"list the addresses of link {index}"):
            return [
                ip_interface(f"{message.get('address')}/{message['prefixlen']}")
                for message in self._route.addr("dump", index=index)
            ]

    def add_address(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        """Put an address on a link, an IPv6 one without duplicate detection."""
        flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
        with _translated(f"add address {address}"):
            self._route.addr(
                "add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags
            )

    def remove_address(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        """Take an address from a link; one that is away already is fine."""
        try:
            with _translated(f"remove address {address}"):
                self._route.addr(
                    "del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen
                )
        except Refused as refusal:
            if refusal.errno != errno.EADDRNOTAVAIL:
                raise

    def lead_out(self, index: int) -> None:
        """Have IPv4 leave by this link, as it is where there is no router."""
        with _translated(f"add a default route through link {index}"):
            self._route.route("add", dst="0.0.0.0/0", oif=index)

    def own_addresses(self) -> list[IPAddress]:
        """The addresses that this namespace is reached by, without those on bridges of networks."""
        bridges = {index for index, name in named_links().items() if name.startswith(NETWORK_LINKS)}
        with _translated("list all addresses"):
            return [
                ip_address(message.get("address"))
                for message in self._route.addr("dump")
                if message["scope"] == _RT_SCOPE_UNIVERSE and message["index"] not in bridges
            ]

    def know(self, index: int, address: IPAddress, mac: str) -> None:
        """Whose MAC an address behind this link is, without asking."""
        with _translated(f"note the neighbour {address}"):
            self._route.neigh("replace", dst=str(address), lladdr=mac, ifindex=index, state="permanent")

    def lead(self, index: int, address: IPAddress, source: IPAddress | None = None) -> None:
        """Reach one address straight through this link."""
        chosen = {"prefsrc": str(source)} if source is not None else {}
        with _translated(f"add a route to {address}"):
            self._route.route(
                "replace",
                dst=f"{address}/{address.max_prefixlen}",
                oif=index,
                scope=_RT_SCOPE_LINK,
                **chosen,
            )

    def lead_through(self, index: int, network: IPNetwork, via: IPAddress, source: IPAddress) -> None:
        """Reach a network through whoever has `via` at the other end of this link."""
        with _translated(f"add a route to {network}"):
            self._route.route(
                "replace",
                dst=str(network),
                gateway=str(via),
                oif=index,
                prefsrc=str(source),
                flags=_RTNH_F_ONLINK,
            )

    def routes(self, index: int) -> list[KernelRoute]:
        """The routes of the main table through a link."""
        with _translated(f"list the routes of link {index}"):
            return [
                _route(message)
                for family in (socket.AF_INET, socket.AF_INET6)
                for message in self._route.route("dump", family=family, oif=index)
                if message.get("oif") == index and message.get("table") == _RT_TABLE_MAIN
            ]

    def add_tunnel(self, name: str, vni: int, local: IPAddress, port: int, mtu: int) -> None:
        """Make a VXLAN device that learns who is where from what it hears."""
        end = {"vxlan_local" if local.version == 4 else "vxlan_local6": str(local)}
        self.add(name, "vxlan", mtu=mtu, vxlan_id=vni, vxlan_port=port, vxlan_learning=1, **end)

    def tunnel(self, index: int) -> tuple[int, str, int]:
        """The number, the local address and the UDP port of a VXLAN device."""
        with _translated(f"look up link {index}"):
            message = self._route.link("get", index=index)[0]
        data = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
        local = data.get_attr("IFLA_VXLAN_LOCAL") or data.get_attr("IFLA_VXLAN_LOCAL6") or ""
        return data.get_attr("IFLA_VXLAN_ID"), str(local), data.get_attr("IFLA_VXLAN_PORT")

    def vlan(self, index: int) -> int | None:
        """The VLAN that a link of that kind is; None for any other."""
        with _translated(f"look up link {index}"):
            message = self._route.link("get", index=index)[0]
        number: int | None = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_VLAN_ID")
        return number

    def peers(self, index: int) -> set[IPAddress]:
        """Where a VXLAN device sends what is for everybody."""
        with _translated(f"list the peers of link {index}"):
            return {
                ip_address(message.get_attr("NDA_DST"))
                for message in self._route.fdb("dump", ifindex=index)
                if message.get_attr("NDA_LLADDR") == _EVERYBODY and message.get_attr("NDA_DST") is not None
            }

    def add_peer(self, index: int, peer: IPAddress) -> None:
        """Have a VXLAN device send what is for everybody there, too."""
        with _translated(f"add tunnel peer {peer}"):
            self._route.fdb("append", ifindex=index, lladdr=_EVERYBODY, dst=str(peer))

    def remove_peer(self, index: int, peer: IPAddress) -> None:
        """Have a VXLAN device send nothing there that is for everybody."""
        with _translated(f"remove tunnel peer {peer}"):
            self._route.fdb("del", ifindex=index, lladdr=_EVERYBODY, dst=str(peer))

    def carrying(self, address: IPAddress) -> Link | None:
        """The link that has this address."""
        with _translated("list all addresses"):
            for message in self._route.addr("dump"):
                if ip_address(message.get("address")) == address:
                    return self.at(message["index"])
        return None

    def towards_others(self) -> int | None:
        """The index of the link that a default route leads through, IPv4's before IPv6's."""
        with _translated("list the routes"):
            for family in (socket.AF_INET, socket.AF_INET6):
                for message in self._route.route("dump", family=family):
                    if message["dst_len"] == 0 and message.get("table") == _RT_TABLE_MAIN:
                        index: int | None = message.get("oif")
                        if index is not None:
                            return index
        return None

    def _get(self, **which: Any) -> Link | None:
        try:
            with _translated("look up a link"):
                return _link(self._route.link("get", **which)[0])
        except Refused as refusal:
            if refusal.errno == errno.ENODEV:
                return None
            raise


@contextmanager
def inside(netns: Netns) -> Iterator[Session]:
    """Let the calling thread work in `netns`, with a session there."""
    with netns.entered(), session() as links:
        yield links


@contextmanager
def session() -> Iterator[Session]:
    """A session in the namespace that the calling thread is in now; it stays there when the thread leaves."""
    loop = asyncio.SelectorEventLoop()
    try:
        with _translated("open a netlink socket"):
            route = IPRoute(ext_ack=True, use_event_loop=loop)
        try:
            yield Session(route)
        finally:
            route.close()
            loop.run_until_complete(asyncio.sleep(0))  # closing is finished by the loop
    finally:
        loop.close()


def link_index(name: str) -> int | None:
    """The index of a link of the namespace that the thread is in."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def named_links() -> dict[int, str]:
    """Index and name of all links of the namespace that the thread is in.

    What pyroute2 makes of a link takes 100 KB, and a node has hundreds of them.
    """
    return dict(socket.if_nameindex())


def write_sysctl(key: str, value: int) -> None:
    """Set `key`, such as net/ipv4/conf/eth0/arp_notify, in the namespace that the calling thread is in."""
    with _translated(f"set {key} to {value}"):
        writable(key).write_text(f"{value}\n")


def switch_off_ipv6(name: str) -> None:
    """Keep a link of the calling thread's namespace from having IPv6 addresses of its own."""
    try:
        write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    except Refused as refusal:
        if refusal.errno != errno.ENOENT:  # a kernel without IPv6
            raise


def switch_off_router_advertisements(name: str) -> None:
    """Let a link of the calling thread's namespace have IPv6, without heeding routers or its own address."""
    try:
        write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 0)
        write_sysctl(f"net/ipv6/conf/{name}/accept_ra", 0)
    except Refused as refusal:
        if refusal.errno != errno.ENOENT:  # a kernel without IPv6
            raise


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise Refused(operation, error.code, str(error.args[1])) from error
    except OSError as error:
        raise Refused(operation, error.errno or 0) from error


def _route(message: Any) -> KernelRoute:
    via = message.get("gateway")
    anywhere = "0.0.0.0" if message["family"] == socket.AF_INET else "::"  # noqa: S104  a destination
    destination = ip_network(f"{message.get('dst') or anywhere}/{message['dst_len']}")
    return destination, ip_address(via) if via else None


def _link(message: Any) -> Link:
    return Link(
        index=message["index"],
        name=message.get("ifname"),
        kind=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND"),
        mac=message.get("address"),
        mtu=message.get("mtu"),
        alias=message.get("ifalias"),
        master=message.get("master"),
        lower=message.get("link") if message.get("link_netnsid") is None else None,
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        loopback=bool(message["flags"] & _IFF_LOOPBACK),
        forwarding=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA", "IFLA_BRPORT_STATE")
        == _FORWARDING,
    )
