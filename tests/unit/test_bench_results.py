"""What `make bench` keeps, and when a bound counts as held."""

import json
from pathlib import Path

import pytest

from bench.results import Figure, merge
from bench.run import BENCHMARKS


@pytest.mark.parametrize(
    ("figure", "value", "held"),
    [
        (Figure("a", "", at_least=0.85), 0.85, True),
        (Figure("a", "", at_least=0.85), 0.84, False),
        (Figure("a", "", at_most=60), 60, True),
        (Figure("a", "", at_most=60), 61, False),
        (Figure("a", ""), 61, None),
    ],
)
def test_a_bound_is_held_at_its_very_value(figure: Figure, value: float, held: bool | None) -> None:
    assert figure.held(value) is held


def test_a_part_that_runs_again_changes_its_own_figures_alone(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    merge({"one": 1.0, "two": 2.0}, {"cpu_count": 2}, file)
    before = json.loads(file.read_text())
    merge({"two": 2.123456}, {"cpu_count": 4}, file)
    after = json.loads(file.read_text())
    assert after["figures"] == {"one": 1.0, "two": 2.123}
    assert after["measured_at"]["one"] == before["measured_at"]["one"]
    assert after["conditions"]["cpu_count"] == 4


def test_no_two_benchmarks_measure_a_figure_of_one_name() -> None:
    names = [figure.name for benchmark in BENCHMARKS.values() for figure in benchmark.figures]
    assert len(names) == len(set(names))
