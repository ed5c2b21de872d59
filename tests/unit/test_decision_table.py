"""The decision table of docs/addresses.md as a text: complete, and in no words that its tests do not know."""

import inspect
import re
from collections import Counter
from dataclasses import replace

import pytest

from schemas.address import AddressAllocate
from schemas.errors import RETRYABLE
from tests.decision_table import ANSWERS, ASKS, SITUATIONS, STATES, Case, Unreadable, read_page

PAGE = read_page()


def documented() -> set[str]:
    """The error codes that the docstring of `address.allocate` promises."""
    listed = (inspect.getdoc(AddressAllocate) or "").partition("Errors:")[2]
    return set(re.findall(r"`([a-z_]+)`", listed))


def told() -> list[tuple[str, bool]]:
    """The error codes of the table, and whether it calls them retryable."""
    refusals = [case.answer() for case in PAGE.cases if case.answer().kind in ("refused", "exhausted")]
    return [(phrase.get("code"), ", retryable" in phrase.text) for phrase in refusals]


@pytest.mark.parametrize("case", PAGE.cases, ids=lambda case: case.id)
def test_every_cell_can_be_read(case: Case):
    assert case.question()
    assert case.answer()
    assert case.states()
    assert case.situations() or not case.situation


def test_every_case_has_an_id_of_its_own():
    assert [name for name, times in Counter(case.id for case in PAGE.cases).items() if times > 1] == []
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", case.id) for case in PAGE.cases)


def test_every_error_of_allocate_is_in_the_table_and_the_other_way_round():
    assert {code for code, _ in told()} == documented()


def test_what_is_retryable_is_so_in_every_case():
    for code, retryable in told():
        if code not in ("exhausted", "address_in_use"):  # these say so where time alone may help
            assert retryable == (code in RETRYABLE), code
    assert {retryable for code, retryable in told() if code == "exhausted"} == {True, False}


@pytest.mark.parametrize("kind", ["ASKS", "SITUATIONS", "ANSWERS", "STATES"])
def test_no_phrase_is_left_that_nobody_uses(kind: str):
    vocabulary = {"ASKS": ASKS, "SITUATIONS": SITUATIONS, "ANSWERS": ANSWERS, "STATES": STATES}[kind]
    used = {
        phrase.kind
        for case in PAGE.cases
        for phrase in {
            "ASKS": [case.question()],
            "SITUATIONS": case.situations(),
            "ANSWERS": [case.answer()],
            "STATES": case.states(),
        }[kind]
    }
    assert used == set(vocabulary)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("asks", "shop/web-0 on n1"),
        ("situation", "shop/web-0 is somewhere"),
        ("situation", "A1 released on n1; and more"),
        ("gets", "exhausted"),
        ("afterwards", ""),
    ],
)
def test_a_cell_in_other_words_cannot_be_read(column: str, cell: str):
    case = replace(Case("x", "release A1 on n1", "", "done", "as before"), **{column: cell})
    with pytest.raises(Unreadable):
        assert (case.question(), case.situations(), case.answer()) and case.states()
