"""What is kept of a soak that found something: for whoever looks for the cause."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.soak.agreement import Snapshot
from bench.soak.history import Entry
from bench.soak.ledger import Violation
from bench.soak.plan import Step
from bench.soak.world import World


def keep_plan(folder: Path, steps: Iterable[Step]) -> None:
    """What was to happen, before it does."""
    _lines(folder / "plan.jsonl", ({"step": type(step).__name__, **asdict(step)} for step in steps))


def keep_violations(folder: Path, violations: Iterable[Violation]) -> None:
    """What was found."""
    _lines(folder / "violations.jsonl", map(asdict, violations))


def keep_history(folder: Path, entries: Sequence[Entry]) -> None:
    """All rows of history about addresses."""
    _lines(folder / "history.jsonl", map(asdict, entries))


def keep_snapshot(folder: Path, name: str, snapshot: Snapshot) -> None:
    """Where runtime, kernel, journals and database were last."""
    (folder / f"{name}.json").write_text(json.dumps(asdict(snapshot), default=_told, indent=1) + "\n")


def keep_processes(folder: Path, world: World) -> None:
    """The logs of all processes, and the journals."""
    for target in world.targets.values():
        if target.log.exists():
            shutil.copy(target.log, folder / f"{target.name}.log")
    for name, node in world.nodes.items():
        for file in node.journal.parent.glob(f"{node.journal.name}*"):
            shutil.copy(file, folder / f"{name}-{file.name}")


def _lines(file: Path, items: Iterable[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8") as out:
        for item in items:
            out.write(json.dumps(item, default=_told) + "\n")


def _told(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)
