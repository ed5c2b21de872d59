"""A story told step by step on the terminal, each step checked; the last line says how many held."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType


class StepFailed(Exception):
    """A step did not hold; the text says what was expected and what was seen."""


class Story:
    """Counts and prints the steps. A step that does not hold is named, and ends the story."""

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._begun = 0
        self.held = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step: printed with what it took; held unless an exception leaves it."""
        self._begun += 1
        started = time.monotonic()
        self._console.print(f"[bold]{self._begun:2}. {title}[/bold]")
        try:
            yield
        except Exception as error:
            self._console.print(f"    [red]did not hold:[/red] {error}", highlight=False, markup=True)
            raise
        self.held += 1
        self._console.print(f"    [green]held[/green] after {time.monotonic() - started:.2f} s")

    def tell(self, text: str) -> None:
        """One line of what was seen."""
        self._console.print(f"    {text}", highlight=False, markup=False)

    def show(self, table: RenderableType) -> None:
        """A table of what was seen."""
        self._console.print(table)

    @property
    def all_held(self) -> bool:
        """Whether every step was told and held."""
        return self.held == self._steps

    def end(self) -> int:
        """Print the last line; the exit status."""
        self._console.print(f"demo: {self.held} of {self._steps} steps held", highlight=False)
        return 0 if self.all_held else 1


def expect(holds: bool, otherwise: str) -> None:
    """Raise `StepFailed` with `otherwise` unless `holds`."""
    if not holds:
        raise StepFailed(otherwise)
