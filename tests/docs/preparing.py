"""What a page takes for granted before one of its blocks, and while one runs: registered by its module.

The modules of tests/docs/pages/ do so, one for each page or folder.
"""

from collections.abc import Callable

from tests.docs.stage import Stage

Prepare = Callable[[Stage], None]

NODES: dict[str, int] = {}
"""How many nodes a page's stack has, where it is not two. A page with none starts its own."""
BEFORE: dict[tuple[str, str], Prepare] = {}
"""By page and the name of the block; without a name: before the first one."""
MEANWHILE: dict[tuple[str, str], Prepare] = {}
"""The same for what happens while a command runs that does not end."""


def before(page: str, name: str = "") -> Callable[[Prepare], Prepare]:
    """Have this done before that block of that page."""
    return _kept(BEFORE, page, name)


def meanwhile(page: str, name: str) -> Callable[[Prepare], Prepare]:
    """Have this done once that block of that page has printed its first line."""
    return _kept(MEANWHILE, page, name)


def _kept(book: dict[tuple[str, str], Prepare], page: str, name: str) -> Callable[[Prepare], Prepare]:
    def keep(prepare: Prepare) -> Prepare:
        assert (page, name) not in book
        book[page, name] = prepare
        return prepare

    return keep
