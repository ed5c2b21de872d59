"""`moorage address map`: all addresses of a network as runs of one state, and how much each state has."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from console.output import Column, OutputOption, draw_rows, say, show
from console.session import EXIT_CODES, LimitOption, asking
from schemas.address import AddressMap, AddressMapPage, AddressRun, MapState

_Network = Annotated[str, typer.Argument(metavar="NETWORK", help="the network's name")]
_Pool = Annotated[str | None, typer.Option(help="only of this pool")]

_BAR_CELLS = 60
_LOOKS: dict[MapState, tuple[str, str]] = {
    "attached": ("█", "green"),
    "waiting": ("▓", "cyan"),
    "cooling": ("▒", "yellow"),
    "quarantined": ("x", "red"),
    "reserved": ("░", "magenta"),
    "free": ("·", ""),
}
"""What a state looks like in a bar, in the order it stands there: told apart without colours too."""


def register(group: typer.Typer) -> None:
    """Add the command to `group`."""
    group.command("map", epilog=EXIT_CODES)(map_)


def map_(
    ctx: typer.Context,
    network: _Network,
    pool: _Pool = None,
    limit: LimitOption = None,
    output: OutputOption = "table",
) -> None:
    """Show all addresses of a network that can be handed out, as runs of one pool and state."""
    with asking(ctx, output) as session:
        query = AddressMap(network=network, pool=pool)
        page = session.ask_pages(query, AddressMapPage, "runs", limit)
        show(page.model_copy(update={"runs": joined(page.runs)}), output, draw_map)


def joined(runs: Iterable[AddressRun]) -> tuple[AddressRun, ...]:
    """`runs`, in address order, with those made one that a page's end had cut in two."""
    whole: list[AddressRun] = []
    for run in runs:
        if whole and _goes_on(whole[-1], run):
            count = str(int(whole[-1].count) + int(run.count))
            whole[-1] = whole[-1].model_copy(update={"last": run.last, "count": count})
        else:
            whole.append(run)
    return tuple(whole)


def _goes_on(run: AddressRun, other: AddressRun) -> bool:
    return (
        (run.pool, run.state) == (other.pool, other.state)
        and run.last.version == other.first.version
        and int(run.last) + 1 == int(other.first)
    )


def cells_of(counts: Sequence[int], cells: int) -> list[int]:
    """How many of `cells` each count gets: in proportion, but one at least for what is there at all."""
    total = sum(counts)
    shares = [max(1, count * cells // total) if count else 0 for count in counts]
    # What rounding left or took: the largest share feels it least.
    shares[shares.index(max(shares))] += cells - sum(shares)
    return shares


_COLUMNS: tuple[Column[AddressRun], ...] = (
    Column("FIRST", lambda run: run.first),
    Column("LAST", lambda run: run.last),
    Column("COUNT", lambda run: run.count),
    Column("POOL", lambda run: run.pool),
    Column("STATE", lambda run: run.state),
)


def draw_map(console: Console, page: AddressMapPage) -> None:
    """The runs as a table; above it, on a terminal, how much each state has."""
    if not page.runs:
        say("No address can be handed out there.")
        return
    if console.is_terminal and page.next is None:  # parts of a whole, so never of the first few rows
        _draw_bars(console, page.runs)
    draw_rows(console, _COLUMNS, page.runs)


def _draw_bars(console: Console, runs: Sequence[AddressRun]) -> None:
    """One bar for each family: among IPv6 addresses the IPv4 ones would not be seen."""
    for version in (4, 6):
        counts: Counter[MapState] = Counter()
        for run in runs:
            if run.first.version == version:
                counts[run.state] += int(run.count)
        if counts:
            _draw_bar(console, f"IPv{version}", counts)


def _draw_bar(console: Console, title: str, counts: Counter[MapState]) -> None:
    states = [state for state in _LOOKS if counts[state]]
    cells = cells_of([counts[state] for state in states], max(10, min(_BAR_CELLS, console.width - 6)))
    bar = Text(f"{title}  ")
    for state, share in zip(states, cells, strict=True):
        glyph, style = _LOOKS[state]
        bar.append(glyph * share, style=style)
    console.print(bar, soft_wrap=True)
    total, digits = counts.total(), len(str(max(counts.values())))
    for state in states:
        glyph, style = _LOOKS[state]
        line = Text("      ").append(glyph, style=style)
        line.append(f" {state:<11}  {counts[state]:>{digits}}  {_percent(counts[state], total):>7}")
        console.print(line, soft_wrap=True)
    console.print()


def _percent(part: int, total: int) -> str:
    """A share that neither hides what is there nor what is missing behind a rounded 0 or 100."""
    share = f"{100 * part / total:.1f} %"
    if part < total and share == "100.0 %":
        return ">99.9 %"
    return "<0.1 %" if share == "0.0 %" else share
