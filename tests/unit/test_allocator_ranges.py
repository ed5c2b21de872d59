"""How addresses are cut into ranges, and the MACs and numbers that come with them; without a database."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.model import Range, derived_mac, next_number
from allocator.ranges import carve, highest, initial_ranges, lowest, merged, without
from allocator.supply import fresh_places
from schemas.errors import ServiceError
from schemas.network import Subnet
from schemas.pool import AddressRange


def spans(parts: list[Range]) -> list[tuple[str, str, int]]:
    return [(str(part.first), str(part.last), part.pool_id) for part in parts]


def test_network_broadcast_and_gateway_are_never_handed_out():
    subnet = Subnet.model_validate({"cidr": "10.1.0.0/29", "gateway": "10.1.0.3"})
    assert spans(initial_ranges(subnet, 1)) == [("10.1.0.1", "10.1.0.2", 1), ("10.1.0.4", "10.1.0.6", 1)]
    first = Subnet.model_validate({"cidr": "10.1.0.0/29", "gateway": "10.1.0.1"})
    assert spans(initial_ranges(first, 1)) == [("10.1.0.2", "10.1.0.6", 1)]


def test_an_ipv6_subnet_keeps_its_last_address_and_not_its_first():
    subnet = Subnet.model_validate({"cidr": "fd00::/126"})
    assert spans(initial_ranges(subnet, 1)) == [("fd00::1", "fd00::3", 1)]


def part(first: str, last: str, cursor: str | None = None, pool_id: int = 1, id_: int | None = 9) -> Range:
    pointer = None if cursor is None else ip_address(cursor)
    return Range(pool_id, ip_address(first), ip_address(last), pointer, used=0, id=id_)


def test_a_carve_splits_at_its_ends_and_keeps_the_cursor_true():
    whole = part("10.1.0.1", "10.1.0.254", cursor="10.1.0.15")
    after = carve([whole], [AddressRange.model_validate("10.1.0.10-10.1.0.20")], 2)
    assert spans(after) == [
        ("10.1.0.1", "10.1.0.9", 1),
        ("10.1.0.10", "10.1.0.20", 2),
        ("10.1.0.21", "10.1.0.254", 1),
    ]
    assert [str(p.cursor) for p in after] == ["None", "10.1.0.15", "10.1.0.21"]
    assert [p.id for p in after] == [9, None, None]


@pytest.mark.parametrize(
    "wanted", ["10.1.0.0-10.1.0.5", "10.2.0.1", "fd00::1", "10.1.0.250-10.1.1.5", "10.1.0.0/28"]
)
def test_a_carve_of_what_is_not_there_is_refused(wanted: str):
    with pytest.raises(ServiceError) as caught:
        carve([part("10.1.0.1", "10.1.0.254")], [AddressRange.model_validate(wanted)], 2)
    assert caught.value.code == "range_invalid"


@given(
    st.lists(st.tuples(st.integers(1, 250), st.integers(1, 250)), min_size=1, max_size=6),
    st.integers(1, 255),
)
def test_carving_never_loses_or_doubles_an_address(pairs: list[tuple[int, int]], cursor: int):
    base = int(ip_address("10.1.0.0"))
    pointer = None if cursor == 255 else IPv4Address(base + cursor)
    parts = [Range(1, IPv4Address(base + 1), IPv4Address(base + 254), pointer, used=0, id=1)]
    for pool_id, (a, b) in enumerate(pairs, start=2):
        span = AddressRange(first=IPv4Address(base + min(a, b)), last=IPv4Address(base + max(a, b)))
        mine = [p for p in parts if p.pool_id == 1]
        others = [p for p in parts if p.pool_id != 1]
        try:
            parts = others + carve(mine, [span], pool_id)
        except ServiceError:
            continue
    covered = sorted(int(p.first) + i - base for p in parts for i in range(p.size))
    assert covered == list(range(1, 255))
    unused = {
        int(p.cursor) + i - base for p in parts if p.cursor for i in range(int(p.last) - int(p.cursor) + 1)
    }
    assert unused == (set() if pointer is None else set(range(cursor, 255)))


def test_never_used_addresses_skip_those_that_were_asked_for_by_name():
    at = ip_address
    whole = part("10.1.0.5", "10.1.0.9", cursor="10.1.0.5")

    def found(cursor: str, taken: list[str], wanted: int = 9) -> list[tuple[str, str | None]]:
        places = fresh_places(1, whole, at(cursor), at("10.1.0.9"), [at(t) for t in taken], wanted)
        return [(str(p.address), None if p.next is None else str(p.next)) for p in places]

    assert found("10.1.0.5", [], 2) == [("10.1.0.5", "10.1.0.6"), ("10.1.0.6", "10.1.0.7")]
    assert found("10.1.0.7", ["10.1.0.7", "10.1.0.8"]) == [("10.1.0.9", None)]
    assert found("10.1.0.9", ["10.1.0.9"]) == []


def test_what_lies_between_held_addresses_is_told_as_ranges():
    read = AddressRange.model_validate

    def left(*held: str) -> list[str]:
        return [str(span) for span in without(read("10.0.0.1-10.0.0.5"), [ip_address(h) for h in held])]

    assert left() == ["10.0.0.1-10.0.0.5"]
    assert left("10.0.0.1", "10.0.0.3") == ["10.0.0.2", "10.0.0.4-10.0.0.5"]
    assert left("10.0.0.5") == ["10.0.0.1-10.0.0.4"]
    assert left("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5") == []


def test_so_many_addresses_are_taken_from_the_lowest_or_the_highest_on():
    read = AddressRange.model_validate
    spans_ = [read("10.0.0.1-10.0.0.3"), read("10.0.0.7-10.0.0.9")]
    assert [str(s) for s in lowest(spans_, 4)] == ["10.0.0.1-10.0.0.3", "10.0.0.7"]
    assert [str(s) for s in highest(spans_, 4)] == ["10.0.0.7-10.0.0.9", "10.0.0.3"]
    assert sum(int(s.last) - int(s.first) + 1 for s in lowest(spans_, 99)) == 6


def test_adjacent_ranges_show_as_one():
    read = AddressRange.model_validate
    assert merged([read("10.0.0.5-10.0.0.9"), read("10.0.0.1-10.0.0.4"), read("10.0.0.11")]) == [
        read("10.0.0.1-10.0.0.9"),
        read("10.0.0.11"),
    ]


@pytest.mark.parametrize("address", [IPv4Address("10.1.2.3"), IPv6Address("fd00::7")])
def test_a_generated_mac_is_unicast_and_locally_administered(address: IPv4Address | IPv6Address):
    first = int(derived_mac(address)[:2], 16)
    assert first & 0b11 == 0b10
    assert derived_mac(address) == derived_mac(address)


def test_an_ipv4_mac_says_its_address_and_an_ipv6_one_has_alternatives():
    assert derived_mac(IPv4Address("10.1.2.3")) == "0a:58:0a:01:02:03"
    assert derived_mac(IPv6Address("fd00::7"), 0) != derived_mac(IPv6Address("fd00::7"), 1)


def test_numbers_never_go_back_after_a_restore():
    before = next_number(0, 1)
    later = next_number(before + 500, 1)
    restored = next_number(before, 2)
    assert before < later < restored
