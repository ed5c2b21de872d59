"""A stage for each test, the checks at its end, and the table of rows at the end of all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from compose.services.local import LocalServices
from tests.chaos import rows, truth
from tests.chaos.stage import Stage, stage_of

_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """Note for the fixtures whether the test itself passed."""
    report: pytest.TestReport = yield  # type: ignore[misc]
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What came of each row."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
    ]
    for line in rows.told(reports):
        terminalreporter.write_line(line)


@pytest.fixture
def unbegun(
    services: LocalServices,
    engine: Engine,
    shim: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Stage]:
    """A stage whose processes the test starts itself. What must be true at the end of a row is checked."""
    with stage_of(services, engine, shim, tmp_path_factory.mktemp("c")) as made:
        yield made
        if request.node.stash.get(_PASSED, False):
            truth.check(made)


@pytest.fixture
def stage(unbegun: Stage) -> Stage:
    """A stage on which all runs: two nodes, network prod, and its pinned pool web for shop/web-*."""
    unbegun.begin()
    return unbegun
