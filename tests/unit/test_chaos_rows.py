"""The table of faults: every row has tests that exist, and every test of faults is in it."""

import ast
from pathlib import Path

import pytest

from tests.chaos.rows import ROWS, told
from tests.named_tests import TESTS, exists

CHAOS = TESTS / "chaos"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_tests_that_exist(row: str):
    assert ROWS[row]
    assert [name for name in ROWS[row] if not exists(f"chaos/{name}")] == []


def test_every_test_of_faults_is_of_one_row():
    named = [name for tests in ROWS.values() for name in tests]
    assert sorted(named) == sorted(
        f"{file.name}::{name}" for file in CHAOS.glob("test_*.py") for name in functions_of(file)
    )


def functions_of(file: Path) -> list[str]:
    """The names of a file's tests."""
    nodes = ast.parse(file.read_text()).body
    functions = [node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [name for name in functions if name.startswith("test_")]


def test_a_row_that_failed_in_one_of_its_tests_failed():
    name = "tests/chaos/test_database.py::test_a_connection_cut_inside_commit"
    reports = [report(f"{name}[a]", "passed"), report(f"{name}[b]", "failed"), report(f"{name}[b]", "passed")]
    (line,) = (line for line in told(reports) if line.endswith("connection cut inside COMMIT"))
    assert line.split()[:3] == ["failed", "3.0", "s"]
    assert sum("not run" in line for line in told(reports)) == len(ROWS) - 1


def report(nodeid: str, outcome: str) -> pytest.TestReport:
    return pytest.TestReport(nodeid, ("", 0, ""), {}, outcome, None, "call", duration=1.0)  # type: ignore[arg-type]
