"""`make soak`: run one, show how it goes, keep its figures, and what it found if it found anything."""

import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import results
from bench.machine import ROOT, Size, machine
from bench.soak.evidence import keep_violations
from bench.soak.ledger import Ledger
from bench.soak.soak import Show, run
from compose.logging import configure_logging
from compose.up import Stopped, stoppable

FIGURES = (
    results.Figure("soak_ops", "pods brought, moved, re-created or ended, and errands of an operator"),
    results.Figure("soak_kills", "SIGKILLs of allocators, workers, RabbitMQ, MariaDB and executables"),
    results.Figure("soak_violations", "promises broken, answers missing and things left over", at_most=0),
)
KEPT_FROM_MINUTES = 10
"""A shorter soak only shows that it works: its figures are not kept."""

_PIPE_WIDTH = 150
_LINE_EVERY_S = 30.0
_SHIM = ROOT / "build" / "cni" / "moorage"


def main(
    minutes: Annotated[float, typer.Option(min=0.2, help="how long things are killed")] = 10,
    seed: Annotated[int | None, typer.Option(help="of an earlier soak, to do the same again")] = None,
    shim: Annotated[Path, typer.Option(help="the CNI executable")] = _SHIM,
    evidence: Annotated[Path, typer.Option(help="what is found is kept in a folder below")] = (
        ROOT / "build" / "soak"
    ),
) -> None:
    """Pods come, move and go while everything is killed at random; exit status 1 for a violation."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    configure_logging("critical", "text")
    # aio-pika forgets one of its own when a broker goes while it connects.
    warnings.filterwarnings("ignore", "coroutine 'Connection.close' was never awaited")
    console = Console() if Console().is_terminal else Console(width=_PIPE_WIDTH)
    console.print(f"a soak of {minutes:g} minutes; to repeat it: make soak MINUTES={minutes:g} SEED={seed}")
    folder = _folder(evidence, seed)
    ledger = Ledger(folder / "events.jsonl")
    try:
        with (
            stoppable(),
            machine(
                Size.NORMAL, lambda line: console.print(f"  {line}", style="dim", highlight=False)
            ) as place,
            _shown(console, ledger, minutes * 60) as show,
        ):
            run(place, shim.absolute(), ledger, folder, seed=seed, seconds=minutes * 60, show=show)
    except Stopped:
        console.print("stopped: nothing is judged")
        if not ledger.violations:
            shutil.rmtree(folder)
        raise typer.Exit(1) from None
    finally:
        ledger.close()
    _tell(console, ledger, folder)
    if minutes >= KEPT_FROM_MINUTES:
        results.merge(_figures(ledger), None)
    raise typer.Exit(1 if ledger.violations else 0)


def _folder(below: Path, seed: int) -> Path:
    below.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{time.strftime('%Y%m%dT%H%M%S')}-{seed}-", dir=below))


@contextmanager
def _shown(console: Console, ledger: Ledger, seconds: float) -> Iterator[Show]:
    """A line that is kept up to date on a terminal, and now and then one more elsewhere."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[counted]}"),
        console=console,
        disable=not console.is_terminal,
    )
    task = progress.add_task("starting", total=seconds, counted="")
    last = 0.0

    def show(phase: str, over_s: float) -> None:
        nonlocal last
        violations = len(ledger.violations)
        counted = f"{ledger.ops} ops, {ledger.kills} kills, {ledger.cuts} cuts, {violations} violations"
        progress.update(task, description=phase, completed=over_s, counted=counted)
        if not console.is_terminal and time.monotonic() - last > _LINE_EVERY_S:
            last = time.monotonic()
            console.print(f"  {phase}, {over_s:.0f} s: {counted}", highlight=False)

    with progress:
        yield show


def _figures(ledger: Ledger) -> dict[str, float]:
    return {
        "soak_ops": ledger.ops,
        "soak_kills": ledger.kills,
        "soak_violations": len(ledger.violations),
    }


def _tell(console: Console, ledger: Ledger, folder: Path) -> None:
    console.print(results.table(FIGURES, _figures(ledger), "make soak"))
    if not ledger.violations:
        shutil.rmtree(folder)
        return
    shown = Table("rule", "seen", title="violations", title_justify="left", show_lines=True)
    for violation in ledger.violations:
        shown.add_row(violation.rule, violation.seen)
    console.print(shown)
    keep_violations(folder, ledger.violations)
    console.print(f"events, history, logs and journals are kept in {folder}")


if __name__ == "__main__":
    typer.run(main)
