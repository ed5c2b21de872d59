"""`moorage address map`: runs across pages, and the bar above them on a terminal."""

from io import StringIO

import pytest
from rich.console import Console

from console.address_map import cells_of, draw_map, joined
from schemas.address import AddressMap, AddressMapPage, AddressRun
from schemas.errors import Code, ServiceError
from tests.console_fakes import FakeAllocator, document, run, table


def span(first: str, last: str, count: int, state: str = "free", pool: str = "default") -> AddressRun:
    return AddressRun(first=first, last=last, count=str(count), pool=pool, state=state)


USED = span("10.20.0.2", "10.20.0.9", 8, "attached")
FREE = span("10.20.0.10", "10.20.0.254", 245)
V6_USED = span("fd00:20::2", "fd00:20::9", 8, "waiting", "web")
V6_FREE = span("fd00:20::a", "fd00:20::ffff:ffff:ffff:ffff", 2**64 - 10)


def mapped(*pages: tuple[AddressRun, ...]) -> FakeAllocator:
    """An allocator that answers one page after the other, whatever the limit."""

    def page(query: AddressMap) -> AddressMapPage:
        at = int(query.after or 0)
        return AddressMapPage(runs=pages[at], next=str(at + 1) if at + 1 < len(pages) else None)

    return FakeAllocator({AddressMap: page})


def drawn(page: AddressMapPage, *, terminal: bool = True, width: int = 80) -> list[str]:
    out = StringIO()
    draw_map(Console(file=out, width=width, force_terminal=terminal, color_system=None, markup=False), page)
    return out.getvalue().splitlines()


def test_map_asks_with_its_filter_and_shows_the_runs():
    allocator = mapped((USED, FREE))
    result = run(allocator, "address", "map", "prod", "--pool", "default")
    assert allocator.asked == [AddressMap(network="prod", pool="default")]
    assert table(result) == [
        ["FIRST", "LAST", "COUNT", "POOL", "STATE"],
        ["10.20.0.2", "10.20.0.9", "8", "default", "attached"],
        ["10.20.0.10", "10.20.0.254", "245", "default", "free"],
    ]


def test_a_run_that_goes_on_in_the_next_page_is_one_in_table_and_json():
    pages = ((USED, span("10.20.0.10", "10.20.0.99", 90)), (span("10.20.0.100", "10.20.0.254", 155),))
    assert table(run(mapped(*pages), "address", "map", "prod"))[1:] == [
        ["10.20.0.2", "10.20.0.9", "8", "default", "attached"],
        ["10.20.0.10", "10.20.0.254", "245", "default", "free"],
    ]
    shown = document(run(mapped(*pages), "address", "map", "prod", "-o", "json"))
    assert AddressMapPage.model_validate(shown) == AddressMapPage(runs=[USED, FREE])


def test_a_run_may_go_on_over_many_pages_and_outgrow_json_numbers():
    half = 2**63
    runs = [
        span("fd00::", "fd00::7fff:ffff:ffff:fffe", half - 1),
        span("fd00::7fff:ffff:ffff:ffff", "fd00::7fff:ffff:ffff:ffff", 1),
        span("fd00::8000:0:0:0", "fd00::ffff:ffff:ffff:ffff", half),
    ]
    assert joined(runs) == (span("fd00::", "fd00::ffff:ffff:ffff:ffff", 2**64),)


@pytest.mark.parametrize(
    "after",
    [
        span("10.20.0.10", "10.20.0.20", 11, "free"),
        span("10.20.0.10", "10.20.0.20", 11, "attached", "web"),
        span("10.20.0.11", "10.20.0.20", 10, "attached"),
        span("::a14:a", "::a14:14", 11, "attached"),
    ],
    ids=["another state", "another pool", "a gap", "another family"],
)
def test_runs_that_do_not_continue_stay_apart(after):
    assert joined([USED, after]) == (USED, after)


def test_a_network_without_addresses_says_so_and_is_still_a_document():
    assert "No address can be handed out there." in run(mapped(()), "address", "map", "prod").stderr
    assert document(run(mapped(()), "address", "map", "prod", "-o", "json")) == {"next": None, "runs": []}


def test_an_unknown_network_is_a_refusal():
    allocator = FakeAllocator({AddressMap: lambda _: ServiceError(Code.NETWORK_UNKNOWN, "no such network")})
    assert run(allocator, "address", "map", "prod").exit_code == 1


def test_a_terminal_shows_how_much_each_state_has_for_each_family():
    lines = drawn(AddressMapPage(runs=[USED, FREE, V6_USED, V6_FREE]))
    assert [line.split() for line in lines[:8]] == [
        ["IPv4", "█" + "·" * 59],
        ["█", "attached", "8", "3.2", "%"],
        ["·", "free", "245", "96.8", "%"],
        [],
        ["IPv6", "▓" + "·" * 59],
        ["▓", "waiting", "8", "<0.1", "%"],
        ["·", "free", str(2**64 - 10), ">99.9", "%"],
        [],
    ]
    assert lines[8].split() == ["FIRST", "LAST", "COUNT", "POOL", "STATE"]


def test_runs_of_one_state_are_added_up():
    lines = drawn(AddressMapPage(runs=[USED, FREE, span("10.21.0.1", "10.21.0.8", 8, "attached")]))
    assert lines[1].split() == ["█", "attached", "16", "6.1", "%"]


def test_what_one_state_has_all_of_is_100_percent():
    lines = drawn(AddressMapPage(runs=[FREE]))
    assert [line.split() for line in lines[:2]] == [["IPv4", "·" * 60], ["·", "free", "245", "100.0", "%"]]


def test_a_pipe_gets_the_table_alone():
    page = AddressMapPage(runs=[USED, FREE])
    assert drawn(page, terminal=False)[0].split() == ["FIRST", "LAST", "COUNT", "POOL", "STATE"]


def test_of_a_part_of_the_map_no_shares_are_told():
    lines = drawn(AddressMapPage(runs=[USED], next="10.20.0.9"))
    assert lines[0].split() == ["FIRST", "LAST", "COUNT", "POOL", "STATE"]


def test_no_line_is_wider_than_a_narrow_terminal():
    lines = drawn(AddressMapPage(runs=[USED, FREE]), width=50)
    assert max(map(len, lines)) <= 50


@pytest.mark.parametrize(
    ("counts", "cells", "shares"),
    [
        ([1], 60, [60]),
        ([1, 1], 60, [30, 30]),
        ([1, 2], 60, [20, 40]),
        ([1, 1, 1], 10, [4, 3, 3]),
        ([1, 2**64], 60, [1, 59]),
        ([1, 1, 1, 1, 1, 2**127], 10, [1, 1, 1, 1, 1, 5]),
    ],
)
def test_a_bar_is_filled_in_proportion_and_hides_nothing(counts, cells, shares):
    assert cells_of(counts, cells) == shares
