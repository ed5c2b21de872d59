"""What the tests of the CNI specification share: one machine, which all of them leave as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.machines import Machine, machine_of


@pytest.fixture(scope="session")
def one_node(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    """A machine with `node-1`. To start one takes longer than its tests: they have networks of their own."""
    with machine_of(tmp_path_factory.mktemp("s"), shim, nodes=1) as running:
        yield running
