"""docs/sizing.md says what bench/results.json has, rounded as the page rounds."""

import json
import re

import pytest

from tests.docs.marks import ROOT

PAGE = (ROOT / "docs" / "sizing.md").read_text()
FIGURES: dict[str, float] = json.loads((ROOT / "bench" / "results.json").read_text())["figures"]
_CELL = re.compile(r"\| ([\d,.]+) ?(ms|s|MB|)? \| `(\w+)` \|")
_TEXT = re.compile(r"([\d,.]+) (ms) \(`(\w+)`\)")
SAID = [*_CELL.findall(PAGE), *_TEXT.findall(PAGE)]


def measured(key: str, unit: str) -> float:
    """The figure in the unit of the page."""
    return FIGURES[key] / 1000 if "_us_" in key and unit == "ms" else FIGURES[key]


def test_every_figure_of_the_page_is_read():
    assert len(SAID) > 15
    named = set(re.findall(r"\| `(\w+)` \|$", PAGE, re.MULTILINE))
    assert named <= {key for _, _, key in SAID}


@pytest.mark.parametrize(("number", "unit", "key"), SAID, ids=lambda part: part or "-")
def test_a_figure_is_the_measured_one(number: str, unit: str, key: str):
    said = number.replace(",", "")
    digits = len(said.partition(".")[2])
    assert float(said) == round(measured(key, unit), digits), f"{key} is {FIGURES[key]}"
