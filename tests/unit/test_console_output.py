"""Tables: what a narrow terminal, a wide one and a pipe get of the same rows."""

from datetime import datetime, timedelta, timezone
from io import StringIO

import pytest
from rich.console import Console

from console.output import Column, cell_text, draw_facts, draw_rows, printable

Line = tuple[str, ...]

COLUMNS: tuple[Column[Line], ...] = (
    Column("NAME", lambda row: row[0]),
    Column("FIRST TO GO", lambda row: row[1], rank=2),
    Column("SECOND TO GO", lambda row: row[2], rank=1),
    Column("LAST", lambda row: row[3]),
)
LONG = "a-name-that-is-rather-long-" * 6


def drawn(rows: list[Line], *, width: int, terminal: bool) -> str:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, no_color=True, markup=False)
    draw_rows(console, COLUMNS, rows)
    return out.getvalue().replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")


def test_a_wide_terminal_shows_every_column():
    text = drawn([("one", "b" * 40, "c" * 40, "d" * 40)], width=200, terminal=True)
    assert all(part in text for part in ("FIRST TO GO", "SECOND TO GO", "b" * 40, "c" * 40, "d" * 40))
    assert "No room for" not in text


def test_a_narrow_terminal_leaves_out_the_least_important_and_says_so():
    text = drawn([("one", "b" * 40, "c" * 20, "d" * 40)], width=80, terminal=True)
    assert "b" * 40 not in text
    assert "No room for: FIRST TO GO. Widen the terminal, or use --output json." in text
    assert "c" * 20 in text
    assert "d" * 40 in text


def test_no_line_is_wider_than_the_terminal():
    text = drawn([(LONG, "b" * 40, "c" * 40, LONG)], width=80, terminal=True)
    assert max(len(line) for line in text.splitlines()) <= 80


def test_what_is_too_long_for_a_terminal_is_folded_not_cut():
    text = drawn([(LONG, "b", "c", LONG.upper())], width=80, terminal=True)
    rows = text.partition("No room")[0].splitlines()[1:]
    first, last = zip(*(line.split() for line in rows), strict=True)
    assert ("".join(first), "".join(last)) == (LONG, LONG.upper())


def test_a_list_is_folded_before_a_column_has_to_go():
    columns = (Column("SPANS", lambda row: row[0], folds=True), Column("NOTE", lambda row: row[1], rank=1))
    out = StringIO()
    console = Console(file=out, width=80, force_terminal=True, no_color=True)
    draw_rows(console, columns, [(tuple(f"10.0.0.{n}" for n in range(30)), "n" * 40)])
    assert "n" * 40 in out.getvalue()
    assert all(f"10.0.0.{n}" in out.getvalue() for n in range(30))
    assert "No room" not in out.getvalue()


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_pipe_gets_everything_with_one_row_a_line_at_any_width(width):
    rows = [(LONG, "b" * 40, "c" * 40, LONG), ("x", "y", "z", "ü")]
    lines = drawn(rows, width=width, terminal=False).splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "FIRST", "TO", "GO", "SECOND", "TO", "GO", "LAST"],
        list(rows[0]),
        list(rows[1]),
    ]


def test_facts_are_lines_of_name_and_value():
    out = StringIO()
    draw_facts(Console(file=out, width=80), [("owner", None), ("error", "x" * 100)])
    assert [line.split() for line in out.getvalue().splitlines()] == [["owner", "-"], ["error", "x" * 100]]


def test_times_are_shown_in_utc_with_seconds():
    summer = timezone(timedelta(hours=2))
    assert cell_text(datetime(2026, 3, 1, 1, 2, 3, 999999, summer)) == "2026-02-28T23:02:03Z"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), ((), "-"), (0, "0"), (("a", 1), "a, 1"), (False, "False")]
)
def test_a_cell_is_never_blank(value, text):
    assert cell_text(value) == text


def test_control_characters_are_spelled_out():
    assert printable("a\x1b[2J\r\n\u202eb") == "a\\x1b[2J\\r\\n\\u202eb"
