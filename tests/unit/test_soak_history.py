"""What a soak finds in a history that is not right; each violation is planted here once."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

import pytest

from bench.soak.history import Entry, History, changed_owners, heard_outside
from schemas.fields import IPAddress

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TEN, ELEVEN = ip_address("10.0.0.10"), ip_address("10.0.0.11")
MAC = "0a:58:0a:00:00:0a"


def entry(second: int, event: str, number: int, address: IPAddress = TEN, **changes: object) -> Entry:
    """A row of attachment `number`, whose seq is its second."""
    values = {
        "network": "prod",
        "seq": second,
        "at": NOON + timedelta(seconds=second),
        "event": f"address.{event}",
        "address": address,
        "owner": "shop/web-0",
        "pool": "web",
        "mac": MAC,
        "node": "node-1",
        "container_id": f"c{number}",
        "attachment_id": UUID(int=number),
    }
    return Entry(**(values | changes))  # type: ignore[arg-type]


def rules(*entries: Entry) -> list[str]:
    """Which rules a history breaks."""
    return [violation.rule for violation in History.read(entries).violations]


TWICE = ["history gives an address to two"]


@pytest.mark.parametrize("end", ["waiting", "freed", "taken_over"])
def test_one_after_the_other_is_right(end: str) -> None:
    assert rules(entry(1, "attached", 1), entry(2, end, 1), entry(3, "attached", 2)) == []


def test_what_is_taken_over_may_be_given_in_the_same_moment() -> None:
    given = entry(2, "attached", 2, seq=3)
    assert rules(entry(1, "attached", 1), entry(2, "taken_over", 1), given) == []


def test_an_address_given_while_somebody_has_it_is_found() -> None:
    assert rules(entry(1, "attached", 1), entry(2, "attached", 2), entry(3, "freed", 1)) == TWICE


def test_an_address_given_before_the_release_of_its_time_is_found() -> None:
    early = entry(2, "attached", 2, seq=4)
    assert rules(entry(1, "attached", 1), entry(3, "freed", 1), early) == TWICE


def test_a_release_of_another_attachment_ends_nothing() -> None:
    assert rules(entry(1, "attached", 1), entry(2, "freed", 9), entry(3, "attached", 2)) == TWICE


def test_the_same_address_of_another_network_is_another() -> None:
    assert rules(entry(1, "attached", 1), entry(2, "attached", 2, network="other")) == []


def test_the_rows_are_read_in_the_order_of_seq() -> None:
    assert rules(entry(3, "attached", 2), entry(1, "attached", 1), entry(2, "freed", 1)) == []


def test_a_quarantine_is_found_for_somebody_was_heard() -> None:
    told = rules(entry(1, "attached", 1), entry(2, "quarantined", 1))
    assert told == ["somebody else was heard with an address"]


@pytest.mark.parametrize("changed", [{"address": ELEVEN}, {"mac": "0a:58:0a:00:00:0b"}])
def test_a_pinned_owner_with_another_address_or_mac_is_found(changed: dict[str, object]) -> None:
    first, end = entry(1, "attached", 1), entry(2, "waiting", 1)
    (violation,) = changed_owners(History.read([first, end, entry(3, "attached", 2, **changed)]), ["web"])  # type: ignore[arg-type]
    assert violation.rule == "a pinned owner has changed"
    assert changed_owners(History.read([first, end, entry(3, "attached", 2)]), ["web"]) == []


def test_owners_elsewhere_may_have_another_address() -> None:
    moved = History.read([entry(1, "attached", 1), entry(2, "freed", 1), entry(3, "attached", 2, ELEVEN)])
    assert changed_owners(moved, ["db"]) == []


def test_both_families_of_an_owner_are_not_taken_for_a_change() -> None:
    six = entry(1, "attached", 1, ip_address("fd00::10"), seq=2)
    assert changed_owners(History.read([entry(1, "attached", 1), six]), ["web"]) == []


def heard(first: float, last: float, *entries: Entry, container: str = "c1") -> list[str]:
    """The rules that are broken where container `c1` was seen with the address between two seconds."""
    span = (NOON + timedelta(seconds=first), NOON + timedelta(seconds=last))
    found = heard_outside(History.read(entries), {("prod", container, TEN): span})
    return [violation.rule for violation in found]


HELD = (entry(10, "attached", 1), entry(20, "freed", 1))
OUTSIDE = ["an address is live that is not the pod's"]


def test_an_address_seen_while_it_was_the_pods_is_right() -> None:
    assert heard(10.1, 19.9, *HELD) == []


def test_an_address_seen_after_its_release_is_found() -> None:
    assert heard(10.1, 20.1, *HELD) == OUTSIDE


def test_an_address_seen_before_it_was_given_is_found() -> None:
    assert heard(9.9, 15, *HELD) == OUTSIDE


def test_an_address_seen_where_it_never_was_is_found() -> None:
    assert heard(10.1, 15, *HELD, container="c7") == OUTSIDE


def test_an_address_that_was_taken_over_may_be_seen_until_it_is_cut() -> None:
    assert heard(10.1, 20.1, entry(10, "attached", 1), entry(20, "taken_over", 1)) == []


def test_an_address_that_is_still_held_may_be_seen() -> None:
    assert heard(10.1, 99, entry(10, "attached", 1)) == []
