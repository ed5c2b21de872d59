"""Requests to the kernel's routing socket, several in one send: what each ADD and DEL does again and again.

Encoding these few messages takes pyroute2 longer than everything else that an ADD does on the node (see
docs/decisions/0010), so they are encoded here; tests read them back with pyroute2. Everything that is not
done for each pod stays with `session.py`.

Sources: netlink(7), rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/veth.h.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from errno import EAFNOSUPPORT, EEXIST, ENODEV
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from threading import Lock
from typing import Self

from node_worker.netlink.session import Refused
from schemas.fields import IPAddress

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE = 16, 17, 18, 20, 24  # RTM_*
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400  # NLM_F_*
_ERROR = 2  # NLMSG_ERROR
_HAS_DETAILS = 0x200  # NLM_F_ACK_TLVS
_DETAIL_TEXT = 1  # NLMSGERR_ATTR_MSG
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _AF_SPEC, _NETNS_FD = 1, 3, 4, 10, 18, 26, 28  # IFLA_*
_ADDR_GEN_MODE = 8  # IFLA_INET6_ADDR_GEN_MODE
_BY_MAC, _NO_ADDRESS = 0, 1  # IN6_ADDR_GEN_MODE_*
_INET_CONF, _ARP_NOTIFY = 1, 22  # IFLA_INET_CONF, IPV4_DEVCONF_ARP_NOTIFY (linux/ip.h)
_KIND, _DATA, _SLAVE_DATA = 1, 2, 5  # IFLA_INFO_*
_PEER = 1  # VETH_INFO_PEER
_PARENT = 5  # IFLA_LINK
_CHILD_MODE = 1  # IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4}  # MACVLAN_MODE_*
_IPVLAN_MODES = {"l2": 0}  # IPVLAN_MODE_L2
_PORT_STATE, _FORWARDING = 1, 3  # IFLA_BRPORT_STATE, BR_STATE_FORWARDING
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_MAIN, _BOOT, _UNIVERSE, _UNICAST = 254, 3, 0, 1  # RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST
_IFF_UP = 1
_HEADER, _LINK, _ADDR = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=BBBBI")
_ROUTE, _ATTRIBUTE, _WORD = struct.Struct("=BBBBBBBBI"), struct.Struct("=HH"), struct.Struct("=I")
_NUMBER, _HALF = struct.Struct("=i"), struct.Struct("=H")
TURN = Lock()
"""Who changes links. The kernel lets one do so at a time, and whoever waits keeps a processor busy: eight
threads at once cost 3.7 ms of system time for each ADD in place of 1.6.
"""
_WAIT_S = 5.0  # the kernel answers within the send; longer means that something is very wrong
_RECEIVED = 65536

Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Message:
    """One request, and what it does, for the error that names it."""

    operation: str
    kind: int
    flags: int
    body: bytes
    spared: int = 0
    """An errno that is fine here."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair. `mtu` in bytes; without `mac` the kernel takes any."""

    name: str
    mtu: int
    mac: str | None = None


def make_veth(outer: End, inner: End, netns_fd: int, master: int) -> Message:
    """Make a pair, both down: `outer` here, a port of the bridge `master`, `inner` in another namespace."""
    peer = _link(0, 0) + _described(inner) + _attribute(_NETNS_FD, _WORD.pack(netns_fd))
    info = _attribute(_KIND, b"veth") + _attribute(_DATA, _attribute(_PEER, peer))
    body = _link(0, 0) + _described(outer) + _attribute(_MASTER, _WORD.pack(master))
    body += _attribute(_LINKINFO, info)
    return Message(f"make veth {outer.name}", _NEWLINK, _CREATE | _EXCL, body)


def make_child(kind: str, mode: str, inner: End, netns_fd: int, parent: int) -> Message:
    """Make a macvlan or ipvlan of the link `parent` in another namespace, down."""
    value = _WORD.pack(_MACVLAN_MODES[mode]) if kind == "macvlan" else _HALF.pack(_IPVLAN_MODES[mode])
    info = _attribute(_KIND, kind.encode()) + _attribute(_DATA, _attribute(_CHILD_MODE, value))
    body = _link(0, 0) + _described(inner) + _attribute(_PARENT, _WORD.pack(parent))
    body += _attribute(_NETNS_FD, _WORD.pack(netns_fd)) + _attribute(_LINKINFO, info)
    return Message(f"make {kind} {inner.name} in the pod", _NEWLINK, _CREATE | _EXCL, body)


def change_link(
    index: int, name: str, *, mac: str | None = None, mtu: int | None = None, up: bool | None = None
) -> Message:
    """Change a link: that of this index or, with index 0, of this name."""
    changes = {"address": mac, "mtu": mtu, "state": up}
    told = ", ".join(key for key, value in changes.items() if value is not None)
    body = _LINK.pack(0, 0, index, _IFF_UP if up else 0, _IFF_UP if up is not None else 0) + _named(
        index, name
    )
    if mac is not None:
        body += _attribute(_ADDRESS, _mac(mac))
    if mtu is not None:
        body += _attribute(_MTU, _WORD.pack(mtu))
    return Message(f"set {told} of {name}", _NEWLINK, 0, body)


def join_bridge(name: str, master: int) -> Message:
    """Make a link a port of the bridge `master`; one that is away already is fine."""
    body = _link(0, 0) + _named(0, name) + _attribute(_MASTER, _WORD.pack(master))
    return Message(f"make {name} a port", _NEWLINK, 0, body, spared=ENODEV)


def without_ipv6(index: int, name: str) -> Message:
    """Keep a link from giving itself an IPv6 address when it comes up. Fine where the kernel has no IPv6."""
    return _address_generation(index, name, _NO_ADDRESS)


def generate_ipv6(index: int, name: str) -> Message:
    """Let a link make its link-local address of its MAC when it comes up."""
    return _address_generation(index, name, _BY_MAC)


def _address_generation(index: int, name: str, mode: int) -> Message:
    inet6 = _attribute(socket.AF_INET6, _attribute(_ADDR_GEN_MODE, bytes([mode])))
    body = _link(index, 0) + _named(index, name) + _attribute(_AF_SPEC, inet6)
    return Message(f"set addrgenmode of {name}", _NEWLINK, 0, body, spared=EAFNOSUPPORT)


def announce_ipv4(index: int, name: str) -> Message:
    """Have the kernel announce a link's IPv4 addresses when its MAC is set (arp_notify, ip-sysctl)."""
    inet = _attribute(_INET_CONF, _attribute(_ARP_NOTIFY, _WORD.pack(1)))
    body = _link(index, 0) + _named(index, name) + _attribute(_AF_SPEC, _attribute(socket.AF_INET, inet))
    return Message(f"set arp_notify of {name}", _NEWLINK, 0, body)


def remove_link(index: int, name: str) -> Message:
    """Remove a link, and the other end of its pair."""
    return Message(f"remove {name}", _DELLINK, 0, _link(index, 0) + _named(index, name), spared=ENODEV)


def add_address(index: int, address: Interface) -> Message:
    """Put an address on a link; an IPv6 one without duplicate detection (RFC 4862 section 5.4)."""
    packed = address.ip.packed
    body = _ADDR.pack(_family(address.version), address.network.prefixlen, 0, _UNIVERSE, index)
    body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    if isinstance(address, IPv4Interface):
        body += _attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    else:
        body += _attribute(_IFA_FLAGS, _WORD.pack(_IFA_F_NODAD))
    return Message(f"add address {address}", _NEWADDR, _CREATE | _EXCL, body)


def add_route(index: int, destination: Network, via: IPAddress, metric: int | None = None) -> Message:
    """Add a route through a link, unless the pod has one to there with that metric: the lowest counts."""
    family, length = _family(destination.version), destination.prefixlen
    body = _ROUTE.pack(family, length, 0, 0, _MAIN, _BOOT, _UNIVERSE, _UNICAST, 0)
    if length:
        body += _attribute(_RTA_DST, destination.network_address.packed)
    body += _attribute(_RTA_GATEWAY, via.packed) + _attribute(_RTA_OIF, _WORD.pack(index))
    if metric is not None:
        body += _attribute(_RTA_PRIORITY, _WORD.pack(metric))
    told = f"add route {destination} via {via}"
    return Message(told, _NEWROUTE, _CREATE | _EXCL, body, spared=EEXIST)


class RoutingSocket:
    """Speaks to the namespace that the thread was in when it was opened, wherever the thread is later."""

    def __init__(self) -> None:
        """Raises `Refused`."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with _told("open a netlink socket"):
            self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.settimeout(_WAIT_S)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)

    def close(self) -> None:
        """Safe to call twice."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def do(self, messages: Sequence[Message]) -> list[bool]:
        """Have all of these done, in their order; whether each was, where not doing it is fine.

        Raises `Refused` for the first that the kernel refuses. It does not stop at that one: whoever cares
        undoes all of them.
        """
        self._send(messages, _REQUEST | _ACK)
        answers = dict(self._answers(len(messages)))
        for number, message in enumerate(messages, 1):
            errno, detail = answers[number]
            if errno not in (0, message.spared):
                raise Refused(message.operation, errno, detail)
        return [answers[number][0] == 0 for number in range(1, len(messages) + 1)]

    def master(self, name: str) -> int | None:
        """The index of the bridge that a link is a port of; None without one."""
        found = self._found(name).get(_MASTER)
        return int(_WORD.unpack(found)[0]) if found is not None else None

    def _found(self, name: str) -> dict[int, bytes]:
        """What the kernel says of a link; nothing where there is none."""
        self._send([Message("look up a link", _GETLINK, 0, _link(0, 0) + _named(0, name))], _REQUEST)
        kind, _, payload = next(self._received())
        return dict(_attributes(payload[_LINK.size :])) if kind == _NEWLINK else {}

    def forwards(self, name: str) -> bool | None:
        """Whether this bridge port lets frames through; None where there is no such port."""
        attributes = self._found(name)
        info = dict(_attributes(attributes.get(_LINKINFO, b"")))
        port = dict(_attributes(info.get(_SLAVE_DATA, b"")))
        return port[_PORT_STATE][0] == _FORWARDING if _PORT_STATE in port else None

    def _send(self, messages: Sequence[Message], flags: int) -> None:
        data = b"".join(
            _HEADER.pack(_HEADER.size + len(message.body), message.kind, message.flags | flags, number, 0)
            + message.body
            for number, message in enumerate(messages, 1)
        )
        # A removal ends with a wait of some 15 ms in which the kernel lets others go on.
        changes = flags & _ACK and messages[0].kind != _DELLINK
        with _told(messages[0].operation), TURN if changes else nullcontext():
            self._socket.send(data)

    def _answers(self, count: int) -> Iterator[tuple[int, tuple[int, str]]]:
        answered = 0
        while answered < count:
            for kind, sequence, payload in self._received():
                if kind == _ERROR:
                    answered += 1
                    yield sequence, _error(payload)

    def _received(self) -> Iterator[tuple[int, int, bytes]]:
        """The messages of one datagram: type, sequence number, and what follows the header."""
        with _told("answer"):
            data = self._socket.recv(_RECEIVED)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            payload = data[at + _HEADER.size : at + length]
            yield kind, sequence, payload if kind != _ERROR or flags & _HAS_DETAILS else payload[:4]
            at += _aligned(max(length, _HEADER.size))


@contextmanager
def _told(operation: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a time-out is one
        raise Refused(operation, error.errno or 0, str(error)) from error


def _error(payload: bytes) -> tuple[int, str]:
    """errno, and the kernel's own words where it has some (struct nlmsgerr)."""
    (number,) = _NUMBER.unpack_from(payload)
    details = dict(_attributes(payload[_NUMBER.size + _HEADER.size :]))
    return -number, details.get(_DETAIL_TEXT, b"").rstrip(b"\0").decode(errors="replace")


def _described(end: End) -> bytes:
    told = _attribute(_IFNAME, os.fsencode(end.name) + b"\0") + _attribute(_MTU, _WORD.pack(end.mtu))
    return told + _attribute(_ADDRESS, _mac(end.mac)) if end.mac is not None else told


def _named(index: int, name: str) -> bytes:
    """With an index a name would be a new one."""
    return _attribute(_IFNAME, os.fsencode(name) + b"\0") if index == 0 else b""


def _link(index: int, flags: int) -> bytes:
    return _LINK.pack(0, 0, index, flags, flags)


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]  # without NLA_F_NESTED
        at += _aligned(max(length, _ATTRIBUTE.size))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6
