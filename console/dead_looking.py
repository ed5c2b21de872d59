"""How commands go through the dead letters: as many as there are, and never for long."""

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from broker.dead_letters.box import Box, Held
from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import Letter
from console.output import stderr

_AT_ONCE = 500

Step = Callable[[int], None]


@dataclass(slots=True)
class Seen:
    """What a look came to: `looked` of `count` letters, of which `matching` fit and `letters` are kept.

    `letters` are those that died first, the oldest death first; `shared`: others held some;
    `kinds` counts what fits by request and code.
    """

    count: int
    shared: bool = False
    looked: int = 0
    matching: int = 0
    letters: list[Letter] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_death: datetime | None = None

    @property
    def complete(self) -> bool:
        """Whether there is nothing that was not looked at."""
        return self.looked >= self.count


async def look(
    box: Box, choice: Choice, *, keep: int | None, within_s: float | None = None, step: Step = lambda _: None
) -> Seen:
    """Go through the letters, for `within_s` seconds at most, and keep the `keep` oldest that fit.

    Raises `unavailable`.
    """
    until = None if within_s is None else monotonic() + within_s
    seen = Seen(box.count, box.shared)
    oldest: list[tuple[float, int, Letter]] = []
    async for batch in batches(box, step):
        seen.looked += len(batch)
        for held in batch:
            letter = held.letter
            if not choice.fits(letter):
                continue
            seen.matching += 1
            seen.kinds[letter.request or "unknown", letter.code] += 1
            seen.last_death = max(seen.last_death or letter.last_death, letter.last_death)
            entry = (-letter.first_death.timestamp(), -seen.matching, letter)
            if keep is None or len(oldest) < keep:
                heapq.heappush(oldest, entry)
            else:
                heapq.heappushpop(oldest, entry)
        if until is not None and monotonic() > until:
            break
    seen.letters = [letter for *_, letter in sorted(oldest, key=lambda entry: entry[:2], reverse=True)]
    return seen


async def batches(box: Box, step: Step = lambda _: None) -> AsyncIterator[list[Held]]:
    """The letters, some hundred at a time. Raises `unavailable`."""
    while batch := await box.take(_AT_ONCE):
        step(len(batch))
        yield batch


@contextmanager
def bar(doing: str, total: int | None) -> Iterator[Step]:
    """A progress bar where stderr is a terminal; what is given is told how many more were done."""
    console = stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda more: progress.update(task, advance=more)
