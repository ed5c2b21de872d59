"""What happened in a soak: every call, every kill, and all that was not right."""

import json
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compose.up import Stopped


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be: which rule, and what was seen."""

    rule: str
    seen: str


class Ledger:
    """Counts and writes down; for all threads. The events go into a file, one JSON object a line."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._violations: list[Violation] = []
        self.ops = 0
        self.kills = 0
        self.cuts = 0

    @property
    def violations(self) -> tuple[Violation, ...]:
        """All so far, each once."""
        with self._lock:
            return tuple(self._violations)

    def note(self, event: str, **about: Any) -> None:
        """Write an event down, with the time."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        line = json.dumps({"at": now, "s": round(time.monotonic() - self._begun, 3), "event": event, **about})
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")

    def did(self) -> None:
        """One step of the plan was carried out."""
        with self._lock:
            self.ops += 1

    def killed(self, what: str, **about: Any) -> None:
        """A process was killed."""
        with self._lock:
            self.kills += 1
        self.note("killed", what=what, **about)

    def cut(self, what: str, server: str) -> None:
        """A process's connections were reset."""
        with self._lock:
            self.cuts += 1
        self.note("cut", what=what, server=server)

    def violated(self, *violations: Violation) -> None:
        """These were seen; one that was seen before counts once."""
        for violation in violations:
            with self._lock:
                if violation in self._violations:
                    continue
                self._violations.append(violation)
            self.note("violation", rule=violation.rule, seen=violation.seen)

    @contextmanager
    def blaming(self, what: str) -> Iterator[None]:
        """An exception inside ends here as a violation: nothing may pass for checked that was not."""
        try:
            yield
        except Stopped:
            raise
        except Exception as error:
            self.note("failed", what=what, traceback=traceback.format_exc())
            self.violated(Violation("the soak itself failed", f"{what}: {type(error).__name__}: {error}"))

    def close(self) -> None:
        """Write out what is left."""
        with self._lock:
            self._file.close()
