"""The page about the CNI specification: every rule of ours is shown by tests that exist, or says why not."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.named_tests import exists

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cni-conformance.md").read_text()
WHOSE = {"ours", "the runtime's", "the administrator's", "the other plugin's"}
WITHOUT_TEST = ("held: ", "not held: ")


class Row(NamedTuple):
    rule: str
    whose: str
    shown: str

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`([^`]+::[^`]+)`", self.shown)


def rows() -> list[Row]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith("| rule |")
    ]
    return [Row(*row) for row in cells]


ROWS = rows()
each_row = pytest.mark.parametrize("row", ROWS, ids=[row.rule[:60] for row in ROWS])


def test_the_page_has_rules_of_every_section_and_verb():
    headings = re.findall(r"^#{2,3} (.*)$", PAGE, re.MULTILINE)
    assert [heading.partition(":")[0] for heading in headings] == [
        "Section 1",
        "Section 2",
        *("ADD", "DEL", "CHECK", "STATUS", "VERSION", "GC"),
        "Section 3",
        "Section 4",
        "Section 5",
        "Older versions",
    ]
    assert len(ROWS) > 60
    assert len({row.rule for row in ROWS}) == len(ROWS)


@each_row
def test_a_rule_of_ours_is_shown_or_says_why_not(row: Row):
    assert row.whose in WHOSE
    if row.whose == "ours":
        assert row.tests or row.shown.startswith(WITHOUT_TEST)


@each_row
def test_every_test_that_is_named_exists(row: Row):
    named = re.findall(r"`([^`]*test_[^`]*)`", row.shown)
    assert named == row.tests, "write folder/file.py::test_name"
    assert [name for name in named if not exists(name)] == []
