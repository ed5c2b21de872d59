"""Dead letters as tables."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console

from broker.dead_letters.letter import Letter
from console.output import Column, draw_rows

_SHORT_ID = 12


def age(letter: Letter) -> str:
    """How long ago it first died, in the largest unit that fits."""
    gone = max(0, int((datetime.now(UTC) - letter.first_death).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if gone >= length:
            return f"{gone // length}{unit}"
    return f"{gone}s"


def short(letter_id: str) -> str:
    """As much of an id as tables show, which is enough to name it."""
    return letter_id[:_SHORT_ID]


_COLUMNS: tuple[Column[Letter], ...] = (
    Column("ID", lambda letter: short(letter.id)),
    Column("FIRST DEATH", lambda letter: letter.first_death, rank=4),
    Column("AGE", age, rank=1),
    Column("DEATHS", lambda letter: letter.deaths, rank=2),
    Column("REQUEST", lambda letter: letter.request or letter.routing_key),
    Column("NETWORK", lambda letter: letter.network, rank=3),
    Column("SENDER", lambda letter: letter.sender, rank=5),
    Column("CODE", lambda letter: letter.code),
    Column("REASON", lambda letter: letter.reason, folds=True),
)


def draw_letters(console: Console, letters: Sequence[Letter]) -> None:
    """One line each."""
    draw_rows(console, _COLUMNS, letters)


def draw_summary(console: Console, kinds: Counter[tuple[str, str]]) -> None:
    """How many there are of each request and code, the most first."""
    columns: tuple[Column[tuple[tuple[str, str], int]], ...] = (
        Column("REQUEST", lambda kind: kind[0][0]),
        Column("CODE", lambda kind: kind[0][1]),
        Column("LETTERS", lambda kind: kind[1]),
    )
    draw_rows(console, columns, kinds.most_common())


def letter_facts(letter: Letter) -> list[tuple[str, object]]:
    """Its story, by name."""
    return [
        ("id", letter.id),
        ("request", letter.request),
        ("routing key", letter.routing_key),
        ("network", letter.network),
        ("node", letter.node),
        ("sender", letter.sender),
        ("code", letter.code),
        ("reason", letter.reason),
        ("first death", letter.first_death),
        ("last death", letter.last_death),
        ("deaths", letter.deaths),
        ("came back from", letter.replay),
        ("version", letter.version),
        *sorted(letter.properties.items()),
    ]
