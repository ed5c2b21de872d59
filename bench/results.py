"""Figures: what each must reach, the file that keeps them, and the table that people read."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

FILE = Path(__file__).parent / "results.json"


@dataclass(frozen=True)
class Figure:
    """One number that a benchmark measures, and the bound it has to keep, if any."""

    name: str
    meaning: str
    at_least: float | None = None
    at_most: float | None = None

    def held(self, value: float) -> bool | None:
        """Whether the bound is kept; None where there is none."""
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}" if self.at_most is not None else ""


def merge(measured: Mapping[str, float], conditions: Mapping[str, Any] | None, file: Path = FILE) -> None:
    """Write `measured` into the file; figures measured at another time stay, each with its own date.

    `conditions` are those of all figures of speed; None where `measured` has none of them.
    """
    kept = json.loads(file.read_text()) if file.exists() else {"figures": {}, "measured_at": {}}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    kept["figures"] |= {name: shortened(value) for name, value in measured.items()}
    kept["measured_at"] |= dict.fromkeys(measured, now)
    if conditions is not None:
        kept["conditions"] = {"date": now, **conditions}
    for part in ("figures", "measured_at"):
        kept[part] = dict(sorted(kept[part].items()))
    file.write_text(json.dumps(kept, indent=2) + "\n")


def shortened(value: float) -> float:
    """At most four digits that count."""
    return float(f"{value:.4g}")


def table(figures: Iterable[Figure], measured: Mapping[str, float], title: str = "make bench") -> Table:
    """What was measured, in the order of `figures`."""
    shown = Table("name", "meaning", title=title, title_justify="left")
    shown.add_column("figure", justify="right")
    shown.add_column("must reach")
    shown.add_column("held")
    words = {True: "[green]yes[/]", False: "[bold red]no[/]", None: ""}
    for figure in figures:
        if figure.name in measured:
            value = shortened(measured[figure.name])
            shown.add_row(figure.name, figure.meaning, f"{value:,g}", figure.bound, words[figure.held(value)])
    return shown
