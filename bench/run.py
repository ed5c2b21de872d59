"""`make bench`: run benchmarks on servers of their own, keep the figures and show them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from bench import (
    allocate_vs_echo,
    attach,
    burst,
    console_map,
    consume_vs_echo,
    dead_letters,
    failover,
    flat,
    heartbeats,
    memory,
    results,
    rollout,
)
from bench.conditions import conditions
from bench.machine import Machine, Size, machine
from compose.logging import configure_logging
from compose.up import Stopped, stoppable

_PIPE_WIDTH = 150


@dataclass(frozen=True)
class Benchmark:
    """What measures some figures together."""

    run: Callable[[Machine], Mapping[str, float]]
    figures: tuple[results.Figure, ...]


BENCHMARKS: Mapping[str, Benchmark] = {
    "allocate_vs_echo": Benchmark(allocate_vs_echo.run, allocate_vs_echo.FIGURES),
    "consume_vs_echo": Benchmark(consume_vs_echo.run, consume_vs_echo.FIGURES),
    "burst": Benchmark(burst.run, burst.FIGURES),
    "flat": Benchmark(flat.run, flat.FIGURES),
    "attach": Benchmark(attach.run, attach.FIGURES),
    "memory": Benchmark(memory.run, memory.FIGURES),
    "heartbeats": Benchmark(heartbeats.run, heartbeats.FIGURES),
    "rollout": Benchmark(rollout.run, rollout.FIGURES),
    "dead_letters": Benchmark(dead_letters.run, dead_letters.FIGURES),
    "console_map": Benchmark(console_map.run, console_map.FIGURES),
    "failover": Benchmark(failover.run, failover.FIGURES),
}


def main(
    only: Annotated[str, typer.Option(help="benchmarks or figures, with commas; all if not given")] = "",
    size: Annotated[Size, typer.Option(help="quick ones only show that all works: nothing is kept")] = (
        Size.NORMAL
    ),
) -> None:
    """Measure, keep what was measured in bench/results.json, and print it beside what must be reached."""
    chosen = _chosen([name for name in only.replace(",", " ").split() if name])
    configure_logging("error", "text")
    console = Console() if Console().is_terminal else Console(width=_PIPE_WIDTH)
    measured: dict[str, float] = {}
    try:
        with stoppable(), machine(size, _teller(console)) as place:
            console.print(f"on {os.cpu_count()} processors, data below {place.services.state_dir}")
            found = conditions(place)
            for name in chosen:
                console.print(f"[bold]{name}[/]", highlight=False)
                measured |= BENCHMARKS[name].run(place)
    except Stopped:
        console.print("stopped")
    figures = [figure for name in chosen for figure in BENCHMARKS[name].figures]
    if measured and size is not Size.QUICK:
        results.merge(measured, found)
    console.print(results.table(figures, measured))


def _chosen(names: list[str]) -> list[str]:
    """The benchmarks that measure what is named. Raises `typer.BadParameter` for a name that is none."""
    known = {figure.name: name for name, one in BENCHMARKS.items() for figure in one.figures}
    known |= {name: name for name in BENCHMARKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    wanted = {known[name] for name in names}
    return [name for name in BENCHMARKS if not names or name in wanted]


def _teller(console: Console) -> Callable[[str], None]:
    def tell(line: str) -> None:
        console.print(f"  {line}", style="dim", highlight=False, markup=False)

    return tell


if __name__ == "__main__":
    typer.run(main)
