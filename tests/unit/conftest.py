"""What most tests of the node worker begin with; a module may have others under the same names."""

from pathlib import Path

import pytest

from tests.node_allocator import FakeAllocator, present
from tests.node_fakes import FakeHost


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is, in a folder of its own, so that it can be copied as it is."""
    return tmp_path / "journal" / "journal.sqlite"


@pytest.fixture
def allocator() -> FakeAllocator:
    """One that knows the network `prod`."""
    return FakeAllocator(present())


@pytest.fixture
def host() -> FakeHost:
    """A machine without any endpoint."""
    return FakeHost()
