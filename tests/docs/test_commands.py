"""Every marked block of README.md and docs/ is run, page by page, and prints what the page shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import links
from tests.docs import pages
from tests.docs.marks import Block, every_block
from tests.docs.preparing import BEFORE, MEANWHILE, NODES
from tests.docs.stage import Stage

pytestmark = [
    pytest.mark.documents,
    pytest.mark.acceptance,
    pytest.mark.netns,
    pytest.mark.services,
    pytest.mark.timeout(300),
]

assert pages.__all__, "they are there to be imported"
PLAYED = [block for block in every_block() if block.kind in ("run", "output", "file")]


class Play:
    """The pages in turn: a block is played after all that come before it on its page, each once."""

    def __init__(self, factory: pytest.TempPathFactory, shim: Path) -> None:
        self._factory, self._shim = factory, shim
        self._page, self._played, self._failed = "", 0, ""
        self._stage: Stage | None = None

    def to(self, block: Block) -> None:
        """Play up to this block."""
        if block.page != self._page:
            self._turn(block.page)
        if self._failed:
            pytest.skip(f"{self._failed} failed, which comes before it")
        page = [each for each in PLAYED if each.page == block.page]
        for each in page[self._played : page.index(block) + 1]:
            self._played += 1
            if not all(links.can_make(kind) for kind in each.needs):
                continue
            assert self._stage is not None
            self._failed = each.where
            if each.kind != "output":
                BEFORE.get((each.page, each.name), lambda stage: None)(self._stage)
            self._stage.play(each, MEANWHILE.get((each.page, each.name), lambda stage: None))
            self._failed = ""

    def _turn(self, page: str) -> None:
        self.close()
        self._page, self._played, self._failed = page, 0, f"the stage of {page}"
        self._stage = Stage(lambda: self._factory.mktemp("d"), self._shim, NODES.get(page, 2))
        BEFORE.get((page, ""), lambda stage: None)(self._stage)
        self._failed = ""

    def close(self) -> None:
        """Stop what runs for the present page."""
        if self._stage is not None:
            self._stage.close()


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Play]:
    played = Play(tmp_path_factory, shim)
    yield played
    played.close()


def parameter(block: Block) -> object:
    group = pytest.mark.xdist_group(f"docs {block.page}")
    return pytest.param(block, id=f"{block.page}-{block.kind}-{block.name}", marks=group)


@pytest.mark.parametrize("block", [parameter(block) for block in PLAYED])
def test_what_a_page_shows_is_what_happens(block: Block, play: Play):
    lacking = [kind for kind in block.needs if not links.can_make(kind)]
    if lacking:
        pytest.skip(f"this kernel makes no {', '.join(lacking)}")
    play.to(block)
