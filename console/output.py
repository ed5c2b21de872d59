"""Answers as people and programs read them: a table, or the answer's own JSON as one document."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Generic, Literal, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.message import Message

Output = Literal["table", "json"]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="table for people, json for programs (errors too)")
]

Row = TypeVar("Row")
Shown = TypeVar("Shown", bound=Message)

_GAP = 2
"""Blanks between two columns."""
_FOLDED = 30
"""Width that a column which may be folded needs at least."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    On a terminal too narrow for all, the column with the highest `rank` goes first; rank 0 always stays.
    One that `folds` holds lists: they may take several lines before another column has to go.
    """

    header: str
    cell: Callable[[Row], object]
    rank: int = 0
    folds: bool = False


def stdout() -> Console:
    """Where answers go. Shows values as they are: nothing in them is taken for markup."""
    return Console(markup=False, emoji=False, highlight=False)


def stderr() -> Console:
    """Where messages for people go."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def say(text: str, *, style: str = "") -> None:
    """One message for people on stderr, in one line however narrow the terminal."""
    stderr().print(Text(printable(text), style=style), soft_wrap=True)


def show(answer: Shown, output: Output, draw: Callable[[Console, Shown], None]) -> None:
    """Print `answer` on stdout: as its JSON, or as `draw` does it."""
    if output == "json":
        typer.echo(answer.model_dump_json(indent=2))
    else:
        console = stdout()
        draw(console, answer)
        console.file.flush()  # what is said of it on stderr comes after it


def emit(document: object) -> None:
    """Print what is no answer of the allocator as one JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2))


def draw_rows(console: Console, columns: Sequence[Column[Row]], rows: Iterable[Row]) -> None:
    """A table of `rows`.

    A terminal gets the columns that have room, told which were left out; what is still too long is folded.
    Anything else (a pipe, a file) gets every column in full, one row a line.
    """
    cells = [[column.header for column in columns]]
    cells += [[cell_text(column.cell(row)) for column in columns] for row in rows]
    shown = list(range(len(columns)))
    if console.is_terminal:
        shown = _fitting(columns, _widths(cells), console.width)
    _print(console, [[line[at] for at in shown] for line in cells], headed=True)
    hidden = [column.header for at, column in enumerate(columns) if at not in shown]
    if hidden:
        told = ", ".join(hidden)
        console.print(Text(f"No room for: {told}. Widen the terminal, or use --output json.", style="dim"))


def draw_facts(console: Console, facts: Sequence[tuple[str, object]]) -> None:
    """One thing as lines of name and value."""
    _print(console, [[name, cell_text(value)] for name, value in facts], headed=False)


def cell_text(value: object) -> str:
    """A value as it stands in a table: `-` for none, times in UTC with seconds, several joined by commas."""
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, (tuple, list)):
        return ", ".join(cell_text(item) for item in value)
    return printable(str(value))


def printable(text: str) -> str:
    """`text` with control characters spelled out: what a node reports must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    """How many cells of a line each column takes when nothing is folded."""
    return [max(map(cell_len, column)) for column in zip(*cells, strict=True)]


def _fitting(columns: Sequence[Column[Row]], widths: Sequence[int], room: int) -> list[int]:
    """Which columns to show in `room` cells."""
    needed = [
        min(width, _FOLDED) if column.folds else width for column, width in zip(columns, widths, strict=True)
    ]
    shown = list(range(len(columns)))
    while sum(needed[at] + _GAP for at in shown) - _GAP > room:
        least = max(shown, key=lambda at: (columns[at].rank, at))
        if columns[least].rank == 0:
            break
        shown.remove(least)
    return shown


def _print(console: Console, cells: Sequence[Sequence[str]], *, headed: bool) -> None:
    widths = _widths(cells)
    if console.is_terminal and sum(widths) + _GAP * (len(widths) - 1) > console.width:
        _print_folded(console, cells, headed=headed)
        return
    # Plain lines: rich's tables take most of a millisecond for each row.
    first, *lines = [_line(cells_of_line, widths) for cells_of_line in cells]
    console.print(Text(first, style="bold" if headed else ""), soft_wrap=True)
    console.file.writelines(f"{line}\n" for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width + _GAP - cell_len(cell)) for cell, width in zip(cells, widths, strict=True))
    return "".join(padded).rstrip()


def _print_folded(console: Console, cells: Sequence[Sequence[str]], *, headed: bool) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    for _ in cells[0]:
        table.add_column(overflow="fold")
    for at, line in enumerate(cells):
        table.add_row(*(Text(cell) for cell in line), style="bold" if headed and at == 0 else "")
    console.print(table)
