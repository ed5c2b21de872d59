"""What the tests share: real services started by our own launcher, one set for each pytest process."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from allocator import schema
from allocator.database import Database
from compose.services.local import LocalServices, local_services
from tests import links
from tests.database import clear, patient_engine

# How fast inputs are made tells of the machine, which others use too.
settings.register_profile("shared machine", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

IN_CI = bool(os.environ.get("CI"))
ROOT = Path(__file__).parent.parent


def _why_no_netns() -> str | None:
    if os.geteuid() != 0:
        return "not root: network namespaces cannot be made"
    if shutil.which("ip") is None:
        return "the program ip is missing: apt-get install iproute2"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in network namespaces are skipped with the reason where there can be none; in CI they fail."""
    reason = _why_no_netns()
    links.mark(items, usable=reason is None)
    if reason is None or IN_CI:
        return
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which kinds of links were tested here, and which were not."""
    stats = terminalreporter.stats
    reports = [
        (outcome, report)
        for outcome in ("passed", "failed", "error", "skipped")
        for report in stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)
    ]
    for line in links.told(reports):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """A private RabbitMQ and MariaDB. A missing one fails the test: the make targets install them."""
    with local_services(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture(scope="session")
def _migrated(services: LocalServices) -> Iterator[Engine]:
    engine = patient_engine(services.database_url)
    schema.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(_migrated: Engine) -> Engine:
    """The database at the newest revision, without a row but the epoch's and the reserved network's."""
    Database(_migrated).run(clear)  # the test before may have killed the server
    return _migrated


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CNI executable, built as the Makefile builds it."""
    target = tmp_path_factory.mktemp("shim") / "moorage"
    flags = ["-std=c11", "-static", "-Os", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["musl-gcc", *flags, "-o", target, ROOT / "cni" / "shim.c"], check=True)
    return target
