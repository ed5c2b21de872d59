"""What the allocator decides, without a database."""

from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.model import Allocation, Network, Pool, Range, next_number, pool_mac
from allocator.policy import (
    Attach,
    Facts,
    Repeat,
    carve,
    choose_pool,
    decide_allocate,
    gap_after,
    initial_ranges,
    merged,
)
from schemas.address import AddressAllocate
from schemas.errors import ServiceError
from schemas.network import NetworkDefinition, Subnet
from schemas.pool import AddressRange

DEFAULT = Pool(id=1, name="default", policy="shared", owners=(), cooldown_s=120)
WEB = Pool(id=2, name="web", policy="pinned", owners=("shop/web-*",), cooldown_s=120)
SHOP = Pool(id=3, name="shop", policy="shared", owners=("shop/*",), cooldown_s=120)
LAB = Pool(id=4, name="lab", policy="reserved", owners=(), cooldown_s=120)
PROD = Network(
    id=1,
    name="prod",
    state="active",
    version=7,
    definition=NetworkDefinition.model_validate({"subnets": [{"cidr": "10.1.0.0/24"}]}),
    pools=(DEFAULT, WEB, SHOP, LAB),
)
OLD, NEW = uuid4(), uuid4()


def ask(**fields: object) -> AddressAllocate:
    body = {
        "network": "prod",
        "owner": "shop/web-0",
        "node": "n1",
        "container_id": "c1",
        "ifname": "eth0",
        "attachment_id": NEW,
    }
    return AddressAllocate.model_validate(body | fields)


def row(**fields: object) -> Allocation:
    base = Allocation(
        id=1,
        range_id=1,
        pool_id=2,
        network_id=1,
        address=ip_address("10.1.0.10"),
        state="attached",
        since=datetime(2026, 1, 1),
        owner="shop/web-0",
        pinned_owner="shop/web-0",
        ifname="eth0",
        mac="0a:58:0a:01:00:0a",
        node="n1",
        container_id="c1",
        attachment_id=NEW,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def facts(**fields: object) -> Facts:
    return replace(Facts(attached=(), pinned=(), released=False), **fields)  # type: ignore[arg-type]


def refusal(request: AddressAllocate, known: Facts, network: Network = PROD) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        decide_allocate(request, network, known)
    return caught.value


def test_a_repeated_allocate_gives_what_the_attachment_has():
    assert decide_allocate(ask(), PROD, facts(attached=(row(),))) == Repeat((row(),))


def test_a_repeat_is_answered_even_while_the_network_goes():
    leaving = replace(PROD, state="deleting")
    assert isinstance(decide_allocate(ask(), leaving, facts(attached=(row(),))), Repeat)


@pytest.mark.parametrize("field", ["owner", "node", "container_id", "ifname"])
def test_an_attachment_id_belongs_to_one_attachment(field: str):
    stranger = row(**{field: "other"})
    assert refusal(ask(), facts(attached=(stranger,))).code == "attachment_conflict"


def test_a_late_allocate_after_its_release_is_dropped():
    assert refusal(ask(), facts(released=True)).code == "attachment_released"


@pytest.mark.parametrize("state", ["creating", "deleting", "failed"])
def test_nobody_joins_a_network_that_is_not_active(state: str):
    error = refusal(ask(), facts(), replace(PROD, state=state))
    assert (error.code, error.retryable) == ("network_not_ready", True)


def test_the_network_decides_who_may_join():
    definition = PROD.definition.model_copy(update={"owners": ("bank/*",)})
    error = refusal(ask(), facts(), replace(PROD, definition=definition))
    assert error.code == "owner_forbidden"
    assert "bank/*" in error.message


def test_a_waiting_owner_comes_back_to_its_address():
    waiting = row(state="waiting", node=None, container_id=None, attachment_id=None)
    decision = decide_allocate(ask(node="n2"), PROD, facts(pinned=(waiting,)))
    assert decision == Attach(pool=WEB, keep=(waiting,), families=(), replaces=())


def test_a_new_sandbox_on_the_same_node_takes_the_address_over():
    old = row(attachment_id=OLD, container_id="c0")
    decision = decide_allocate(ask(), PROD, facts(pinned=(old,)))
    assert isinstance(decision, Attach)
    assert decision.replaces == (OLD,)


def test_an_owner_attached_on_another_node_has_to_wait():
    error = refusal(ask(node="n2"), facts(pinned=(row(attachment_id=OLD),)))
    assert (error.code, error.retryable, error.fields["node"]) == ("owner_attached_elsewhere", True, "n1")


def test_a_pinned_owner_does_not_get_a_second_address_from_another_pool():
    waiting = row(state="waiting")
    assert refusal(ask(pool="shop"), facts(pinned=(waiting,))).code == "owner_pinned"


def test_a_pool_that_no_longer_allows_its_owner_refuses_it():
    closed = replace(PROD, pools=(DEFAULT, replace(WEB, owners=("bank/*",))))
    assert refusal(ask(), facts(pinned=(row(state="waiting"),)), closed).code == "owner_forbidden"


def test_a_missing_family_is_added_to_a_pinned_owner():
    dual = {"subnets": [{"cidr": "10.1.0.0/24"}, {"cidr": "fd00:1::/64"}]}
    network = replace(PROD, definition=NetworkDefinition.model_validate(dual))
    decision = decide_allocate(ask(), network, facts(pinned=(row(state="waiting"),)))
    assert isinstance(decision, Attach)
    assert decision.families == (6,)


@pytest.mark.parametrize(
    ("owner", "wanted", "expected"),
    [
        ("shop/web-0", None, "web"),
        ("shop/cart-1", None, "shop"),
        ("bank/api-0", None, "default"),
        ("shop/web-0", "shop", "shop"),
        ("shop/web-0", "default", "default"),
    ],
)
def test_the_pool_is_the_one_named_or_the_closest(owner: str, wanted: str | None, expected: str):
    assert choose_pool(PROD.pools, owner, wanted).name == expected


@pytest.mark.parametrize(
    ("wanted", "code"), [("web", "owner_forbidden"), ("nope", "pool_unknown"), ("lab", "owner_forbidden")]
)
def test_a_pool_that_cannot_be_used_is_refused(wanted: str, code: str):
    with pytest.raises(ServiceError) as caught:
        choose_pool(PROD.pools, "bank/api-0", wanted)
    assert caught.value.code == code


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


def test_a_gap_is_found_behind_addresses_that_were_asked_for_by_name():
    at = ip_address
    assert gap_after(at("10.0.0.5"), at("10.0.0.9"), []) == at("10.0.0.5")
    assert gap_after(at("10.0.0.5"), at("10.0.0.9"), [at("10.0.0.5"), at("10.0.0.6")]) == at("10.0.0.7")
    assert gap_after(at("10.0.0.5"), at("10.0.0.9"), [at("10.0.0.6")]) == at("10.0.0.5")
    assert gap_after(at("10.0.0.9"), at("10.0.0.9"), [at("10.0.0.9")]) is None


def test_adjacent_ranges_show_as_one():
    read = AddressRange.model_validate
    assert merged([read("10.0.0.5-10.0.0.9"), read("10.0.0.1-10.0.0.4"), read("10.0.0.11")]) == [
        read("10.0.0.1-10.0.0.9"),
        read("10.0.0.11"),
    ]


@pytest.mark.parametrize("address", [IPv4Address("10.1.2.3"), IPv6Address("fd00::7")])
def test_a_generated_mac_is_unicast_and_locally_administered(address: IPv4Address | IPv6Address):
    first = int(pool_mac(address)[:2], 16)
    assert first & 0b11 == 0b10
    assert pool_mac(address) == pool_mac(address)


def test_an_ipv4_mac_says_its_address_and_an_ipv6_one_has_alternatives():
    assert pool_mac(IPv4Address("10.1.2.3")) == "0a:58:0a:01:02:03"
    assert pool_mac(IPv6Address("fd00::7"), 0) != pool_mac(IPv6Address("fd00::7"), 1)


def test_numbers_never_go_back_after_a_restore():
    before = next_number(0, 1)
    later = next_number(before + 500, 1)
    restored = next_number(before, 2)
    assert before < later < restored
