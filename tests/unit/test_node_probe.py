"""What a frame says of who uses an address, and that no frame at all brings the reader down."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_worker import probe
from node_worker.probe import claimed

MAC, OTHER = bytes.fromhex("0a580a140005"), bytes.fromhex("0e1122334455")
FOUR, SIX = IPv4Address("10.20.0.5"), IPv6Address("fd00:20::5")


def arp(operation: int, sender: bytes, address: bytes, target: bytes) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + sender + address + bytes(6) + target
    return b"\xff" * 6 + sender + struct.pack("!H", 0x0806) + body


def icmp(kind: int, source: IPv6Address, options: bytes = b"", hops: int = 255) -> bytes:
    message = struct.pack("!BBHI", kind, 0, 0, 0) + SIX.packed + options
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, hops) + source.packed + bytes(16)
    return b"\x33\x33" + bytes(4) + OTHER + struct.pack("!H", 0x86DD) + header + message


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (arp(2, OTHER, FOUR.packed, bytes(4)), (FOUR, "0e:11:22:33:44:55")),
        (arp(1, OTHER, FOUR.packed, bytes(4)), (FOUR, "0e:11:22:33:44:55")),
        (arp(1, OTHER, bytes(4), FOUR.packed), (FOUR, "0e:11:22:33:44:55")),
        (arp(2, OTHER, bytes(4), FOUR.packed), None),
        (icmp(136, SIX), (SIX, "0e:11:22:33:44:55")),
        (icmp(136, SIX, b"\x02\x01" + MAC), (SIX, "0a:58:0a:14:00:05")),
        (icmp(135, IPv6Address("::")), (SIX, "0e:11:22:33:44:55")),
        (icmp(135, IPv6Address("fe80::1")), None),
        (icmp(136, SIX, hops=254), None),
        (icmp(128, SIX), None),
        (b"", None),
    ],
)
def test_what_a_frame_says_of_who_uses_an_address(frame: bytes, found: object) -> None:
    assert claimed(frame) == found


@given(st.binary(max_size=120))
def test_any_bytes_are_read(junk: bytes) -> None:
    for kind in (b"\x08\x06", b"\x86\xdd"):
        claimed(bytes(12) + kind + junk)


@given(st.integers(min_value=0, max_value=90))
def test_a_frame_that_is_cut_off_claims_nothing_wrong(length: int) -> None:
    for whole in (arp(2, OTHER, FOUR.packed, bytes(4)), icmp(136, SIX, b"\x02\x01" + MAC)):
        assert claimed(whole[:length]) in (None, claimed(whole), (SIX, "0e:11:22:33:44:55"))


def test_our_own_questions_claim_nothing_but_a_probe() -> None:
    for address in (FOUR, SIX):
        frame = probe._probe(address, MAC)
        assert claimed(frame) == (address, "0a:58:0a:14:00:05")


def test_a_solicitation_has_a_right_checksum() -> None:
    frame = probe._solicitation(SIX, MAC)
    assert frame[:6] == bytes.fromhex("3333ff000005")
    pseudo = frame[22:54] + struct.pack("!II", 24, 58)
    total = sum(struct.unpack("!32H", pseudo + frame[54:]))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
