"""Asks the segment, before an address is used, whether somebody else uses it.

Sources: RFC 5227 section 2.1.1 (ARP probes), RFC 4862 section 5.4 (duplicate address detection), RFC 4861
sections 4.3 and 4.4, packet(7).
"""

import select
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

from node_worker.netlink.namespace import Netns
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress

WITHIN_S = 0.15
"""How long answers are waited for, in seconds. On a segment they take less than a millisecond."""
_TIMES = 3

_ETH_P_ALL, _ETH_P_ARP, _ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD  # linux/if_ether.h
_BROADCAST = b"\xff" * 6
_SOL_PACKET, _ADD_MEMBERSHIP, _ALLMULTI = 263, 1, 2  # linux/if_packet.h
_ARP, _ARP_HEADER = struct.Struct("!HHBBH6s4s6s4s"), (1, 0x0800, 6, 4)
_REQUEST = 1
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_TARGET_LINK_LAYER = 2
_ANY = IPv6Address("::")
_SOLICITED = int(IPv6Address("ff02::1:ff00:0"))


def who_uses(addresses: Collection[IPAddress], netns: Netns, ifname: str) -> dict[IPAddress, str]:
    """The MAC of whoever answers for one of `addresses` on the segment that `ifname` of `netns` is on.

    Takes `WITHIN_S`, less where all are answered for. The interface must be up, and have none of the
    addresses. Raises ServiceError `kernel_refused`.
    """
    found: dict[IPAddress, str] = {}
    with _listening(netns, ifname) as (wire, mac):
        probes = [_probe(address, mac) for address in addresses]
        began = time.monotonic()
        for number in range(_TIMES):
            for frame in probes:
                wire.send(frame)
            for frame in _heard(wire, began + WITHIN_S * (number + 1) / _TIMES):
                claim = claimed(frame)
                if claim is not None and claim[0] in addresses and claim[1] != _written(mac):
                    found.setdefault(*claim)
            if len(found) == len(addresses):
                break
    return found


def check_allowed(netns: Netns) -> None:
    """Raise ServiceError `kernel_refused` where this process may not listen to a segment."""
    try:
        with _opened(netns):
            pass
    except OSError as error:
        raise _refused("ask a segment whether an address is in use", error) from error


def claimed(frame: bytes) -> tuple[IPAddress, str] | None:
    """Which address an Ethernet frame says that its sender uses, or is about to use, and the sender's MAC."""
    if len(frame) < 14:
        return None
    (kind,) = struct.unpack_from("!H", frame, 12)
    try:
        if kind == _ETH_P_ARP:
            return _claimed_by_arp(frame[14:])
        if kind == _ETH_P_IPV6:
            return _claimed_by_neighbour(frame)
    except (struct.error, IndexError):
        return None  # cut off in the middle
    return None


@contextmanager
def _listening(netns: Netns, ifname: str) -> Iterator[tuple[socket.socket, bytes]]:
    """A socket that hears all of the interface, and the interface's MAC."""
    try:
        with _opened(netns) as wire:
            with netns.entered():
                index = socket.if_nametoindex(ifname)
                wire.bind((ifname, _ETH_P_ALL))
            # Answers to an IPv6 probe go to a group that nobody here has joined.
            membership = struct.pack("iHH8s", index, _ALLMULTI, 0, b"")
            wire.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
            yield wire, wire.getsockname()[4]
    except OSError as error:
        raise _refused(f"probe the segment of {ifname}", error) from error


def _opened(netns: Netns) -> socket.socket:
    with netns.entered():
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)


def _refused(what: str, error: OSError) -> ServiceError:
    return ServiceError(
        Code.KERNEL_REFUSED,
        f"the kernel refused to {what} ({error.strerror or error}): run the node worker with CAP_NET_RAW, or "
        "create the network with --no-probe",
        operation="probe",
    )


def _heard(wire: socket.socket, until: float) -> Iterator[bytes]:
    while (left := until - time.monotonic()) > 0 and select.select([wire], [], [], left)[0]:
        frame, (_, _, direction, *_) = wire.recvfrom(256)
        if direction != socket.PACKET_OUTGOING:
            yield frame


def _probe(address: IPAddress, mac: bytes) -> bytes:
    return _arp_probe(address, mac) if isinstance(address, IPv4Address) else _solicitation(address, mac)


def _arp_probe(address: IPv4Address, mac: bytes) -> bytes:
    """A request with no sender address: it changes nobody's cache."""
    asked = _ARP.pack(*_ARP_HEADER, _REQUEST, mac, bytes(4), bytes(6), address.packed)
    return _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP) + asked


def _solicitation(address: IPv6Address, mac: bytes) -> bytes:
    group = IPv6Address(_SOLICITED | int(address) & 0xFFFFFF)
    bare = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + address.packed
    sealed = bare[:2] + struct.pack("!H", _checksum(_ANY, group, bare)) + bare[4:]
    header = struct.pack("!IHBB", 6 << 28, len(sealed), _ICMPV6, 255) + _ANY.packed + group.packed
    ethernet = b"\x33\x33" + group.packed[-4:] + mac + struct.pack("!H", _ETH_P_IPV6)
    return ethernet + header + sealed


def _checksum(source: IPv6Address, target: IPv6Address, message: bytes) -> int:
    """RFC 8200 section 8.1. The message's own checksum is zero, its length even."""
    pseudo = source.packed + target.packed + struct.pack("!II", len(message), _ICMPV6)
    total: int = sum(struct.unpack(f"!{(len(pseudo) + len(message)) // 2}H", pseudo + message))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _claimed_by_arp(body: bytes) -> tuple[IPAddress, str] | None:
    *header, operation, sender, address, _, target = _ARP.unpack_from(body)
    if tuple(header) != _ARP_HEADER:
        return None
    if address == bytes(4):  # somebody else probes
        return (ip_address(target), _written(sender)) if operation == _REQUEST else None
    return ip_address(address), _written(sender)


def _claimed_by_neighbour(frame: bytes) -> tuple[IPAddress, str] | None:
    header, message = frame[14:54], frame[54:]
    if header[6] != _ICMPV6 or header[7] != 255:  # a router passed it on
        return None
    target = ip_address(message[8:24]) if len(message) >= 24 else None
    if target is None or message[1] != 0:
        return None
    if message[0] == _ADVERTISEMENT:
        return target, _written(_link_layer(message[24:]) or frame[6:12])
    if message[0] == _SOLICITATION and header[8:24] == _ANY.packed:  # somebody else probes
        return target, _written(frame[6:12])
    return None


def _link_layer(options: bytes) -> bytes | None:
    while len(options) >= 8 and options[1]:
        if options[0] == _TARGET_LINK_LAYER:
            return options[2:8]
        options = options[8 * options[1] :]
    return None


def _written(mac: bytes) -> str:
    return mac.hex(":")
