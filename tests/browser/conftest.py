"""One stage for all tests of the page: to set it up takes longer than they do."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.browsing import Visitor
from tests.browser.stage import Stage, stage

Picture = Callable[[Page, str], None]


@pytest.fixture(scope="package")
def on_stage(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("b"), shim) as running:
        yield running


@pytest.fixture(scope="package")
def operator(on_stage: Stage) -> Iterator[Visitor]:
    """An operator's browser, as large as a laptop's."""
    found = on_stage.visitor(on_stage.token("ops", "operator"), viewport={"width": 1280, "height": 900})
    yield found
    found.close()


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Picture:
    """Takes a screenshot; into MOORAGE_SCREENSHOTS where that is set (`make screenshots`)."""
    named = os.environ.get("MOORAGE_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=True)

    return take
