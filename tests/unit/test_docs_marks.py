"""The marks of the documents' blocks: each command is run by a test, or the page says why it cannot be."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.likeness import alike
from tests.docs.marks import PAGES, Block, Unreadable, blocks, every_block
from tests.docs.pages import __all__ as prepared
from tests.docs.preparing import BEFORE, MEANWHILE, NODES

BLOCKS = every_block()
COMMANDS = [block for block in BLOCKS if block.commands]


def test_there_are_pages_and_commands():
    assert len(PAGES) > 40
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.where)
def test_a_block_of_commands_is_run_or_says_why_not(block: Block):
    assert block.kind is not None, (
        f"{block.where}: it needs `<!-- run: NAME -->` or `<!-- not run: REASON -->` (tests/docs/marks.py)"
    )
    assert block.kind != "not run" or len(block.name.split()) > 3, "a reason is a sentence"


def test_no_two_blocks_that_are_run_on_one_page_have_the_same_name():
    names = [(block.page, block.name) for block in BLOCKS if block.kind == "run"]
    assert len(set(names)) == len(names)


def test_an_output_belongs_to_the_block_that_is_run_before_it():
    for before, block in pairwise(BLOCKS):
        if block.kind == "output":
            ran = (before.page, before.kind, before.name)
            assert ran == (block.page, "run", block.name), block.where


def test_what_is_prepared_is_prepared_for_a_block_that_there_is():
    run = {(block.page, block.name) for block in BLOCKS if block.kind == "run"}
    pages = {page for page, _ in run}
    assert prepared
    assert {key for key in (*BEFORE, *MEANWHILE) if key[1]} <= run
    assert {page for page, name in BEFORE if not name} | set(NODES) <= pages


def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> list[Block]:
    monkeypatch.setattr("tests.docs.marks.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(text)
    return list(blocks(tmp_path / "page.md"))


def test_a_transcript_is_read_as_commands_and_what_each_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    typed = "$ one \\\n> more\nsaid\n$ two\nerror: no\n$ three\n"
    text = f"# A\n\n<!-- run: look exit=2 at=node-1 -->\n```text\n{typed}```\n"
    (block,) = read(tmp_path, monkeypatch, text)
    assert (block.kind, block.name, block.line, block.options["at"]) == ("run", "look", 4, "node-1")
    assert [(step.command, step.shown) for step in block.steps] == [
        ("one \\\nmore", "said\n"),
        ("two", "error: no\n"),
        ("three", ""),
    ]
    assert block.statuses == [0, 1, 2]


def test_a_script_is_read_line_by_line_unless_it_holds_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = "```sh\none \\\n  more\n\n# said\ntwo\n```\n\n```sh\ncat <<E\na\nE\n```\n"
    lines, whole = read(tmp_path, monkeypatch, text)
    assert [step.command for step in lines.steps] == ["one \\\n  more", "two"]
    assert [step.command for step in whole.steps] == ["cat <<E\na\nE\n"]
    assert lines.kind is None


def test_a_mark_belongs_to_the_very_next_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = "<!-- not run: there is\nno cluster -->\n```sh\nkubectl get pods\n```\n\n```sh\nls\n```\n"
    first, second = read(tmp_path, monkeypatch, text)
    assert (first.kind, first.name) == ("not run", "there is no cluster")
    assert second.kind is None


@pytest.mark.parametrize("said", ["run: look colour=red", "run: Two Words", "output: look exit=1"])
def test_a_mark_that_says_nothing_is_an_error(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(Unreadable):
        read(tmp_path, monkeypatch, f"<!-- {said} -->\n```sh\nls\n```\n")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a  b\n", "a      b  \n"),
        ("2026-11-29T01:45:24Z 2s", "2027-01-02T03:04:05.123456Z 14s"),
        ("link ca:0c:d1:06:f1:1e up", "link 26:14:77:00:12:34 up"),
        ("node 481acb0b-0889-40ae-b9d2-e6eee7c147ea", "node 00000000-0889-40ae-b9d2-e6eee7c147ea"),
        ("error: no ... of it", "error: no trace of it"),
        ("first\n...\nlast", "first\nsecond\nthird\nlast"),
        ("first\n...\nlast", "first\nlast"),
        ("", ""),
    ],
)
def test_what_is_another_each_time_is_alike(shown: str, printed: str):
    assert alike(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("10.90.0.12 waiting", "10.90.0.13 waiting"),
        ("0a:58:0a:5a:00:0c", "0a:58:0a:5a:00:0d"),
        ("first\nlast", "first\nsecond\nlast"),
        ("first\nlast", "last\nfirst"),
        ("", "said"),
        ("a.b", "axb"),
        ("2 of 3 nodes", "1 of 3 nodes"),
    ],
)
def test_what_differs_is_not_alike(shown: str, printed: str):
    assert not alike(shown, printed)


def test_lines_may_come_in_any_order_but_each_as_often_as_it_is_shown():
    assert alike("b\na", "a\nb", in_order=False)
    assert alike("b\n...", "a\nb", in_order=False)
    assert not alike("a\na", "a\nb", in_order=False)
    assert not alike("a", "a\nb", in_order=False)
