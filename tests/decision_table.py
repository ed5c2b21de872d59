"""The decision table of docs/addresses.md: its rows, and the phrases that its cells are made of.

A cell is one or several phrases with `;` between them. What is no phrase of its column cannot be read, and
raises: the table has no words of its own that no test understands.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "addresses.md"

_HEADERS = {
    "case": ("#", "asks", "while", "gets", "afterwards"),
    "network": ("network", "subnets", "owners"),
    "pool": ("pool", "policy", "addresses", "owners", "own MACs"),
}

_ADDRESS = r"(?:\d+\.\d+\.\d+\.\d+|\.\d+|::\d+)"
_WORDS = {
    "owner": r"[a-z]+/[a-z]+-\d+",
    "node": r"n\d",
    "addresses": rf"{_ADDRESS}(?:(?: and | or ){_ADDRESS})*",
    "attachment": r"A\d",
    "network": r"[a-z]+",
    "pool": r"[a-z]+",
    "mac": r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}",
    "ifname": r"[a-z]+\d",
    "pattern": r"[a-z]+/[a-z*-]+",
    "code": r"[a-z_]+",
    "number": r"\d+",
    "total": r"\d+",
    "holders": r"[a-z0-9/, -]+",
}

Vocabulary = Mapping[str, str]
"""Kinds of phrases; `{owner}` stands for a word of `_WORDS`, `[...]` for what may be left out."""

ASKS: Vocabulary = {
    "allocate": "{owner} on {node} by {attachment}[ as {addresses}][ from {pool}][ with {mac}][ at {ifname}]"
    "[ in {network}][, too late]",
    "release": "release {attachment} on {node}[ in {network}]",
    "release_container": "release the container of {attachment} on {node}[ at {ifname}]",
    "quarantine": "quarantine {addresses} of {attachment} on {node}[ in {network}]",
}
SITUATIONS: Vocabulary = {
    "attached": "{owner} attached on {node} as {addresses}[ with {mac}][ by {attachment}][ in {network}]",
    "released": "{attachment} released on {node}",
    "quarantined_by": "{addresses} of {attachment} quarantined on {node}",
    "waits": "{addresses} waits for {owner}[ with {mac}]",
    "just_freed": "{addresses} was {owner}'s until just now",
    "long_free": "{addresses} was {owner}'s until {number} h ago",
    "quarantined": "{addresses} was {owner}'s, now quarantined",
    "moved": "{owner} moved to {addresses}",
    "restored": "the database was restored",
    "pool_closed": "pool {pool} now for {pattern}",
    "network_closed": "network {network} now for {pattern}",
}
ANSWERS: Vocabulary = {
    "allocated": "{addresses}[ from {pool}][, MAC {mac}][, replaces {attachment}]",
    "exhausted": "`{code}`[, retryable]: {number} of {total} used[, by {holders}]",
    "refused": "`{code}`[, retryable]",
    "dropped": "no answer",
    "nothing_freed": "frees nothing",
    "freed": "frees {addresses}",
    "done": "done",
}
STATES: Vocabulary = {
    "unchanged": "as before",
    "attached": "{addresses} attached to {owner} on {node} by {attachment}",
    "waits": "{addresses} waits for {owner}",
    "free": "{addresses} free",
    "quarantined": "{addresses} quarantined",
    "ended": "{attachment} has ended",
}


class Unreadable(Exception):
    """A table, a row or a cell that is not as the tests know them."""


@dataclass(frozen=True)
class Phrase:
    """One phrase: what kind of one, its words by name, and the whole of it."""

    kind: str
    words: Mapping[str, str]
    text: str

    def get(self, name: str, otherwise: str = "") -> str:
        """A word of the phrase, or what is meant where it is left out."""
        return self.words.get(name, otherwise)

    def addresses(self) -> list[str]:
        """The addresses that it names, as the page writes them."""
        return re.split(" and | or ", self.words["addresses"]) if "addresses" in self.words else []


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    id: str
    asks: str
    situation: str
    gets: str
    afterwards: str

    def question(self) -> Phrase:
        """What is asked."""
        return _one(self.asks, ASKS)

    def situations(self) -> list[Phrase]:
        """What happened before, in order."""
        return _several(self.situation, SITUATIONS)

    def answer(self) -> Phrase:
        """What the asker is told."""
        return _one(self.gets, ANSWERS)

    def states(self) -> list[Phrase]:
        """What is otherwise afterwards."""
        return _several(self.afterwards, STATES) or [_one(self.afterwards, STATES)]


@dataclass(frozen=True)
class Page:
    """The stage that all rows play on, and the rows."""

    networks: Sequence[Mapping[str, str]]
    pools: Sequence[Mapping[str, str]]
    cases: Sequence[Case]


def read_page() -> Page:
    """What docs/addresses.md says. Raises `Unreadable`."""
    found: dict[str, list[dict[str, str]]] = {kind: [] for kind in _HEADERS}
    for header, rows in _tables(PAGE.read_text()):
        for kind, known in _HEADERS.items():
            if header == known:
                found[kind] += [dict(zip(header, row, strict=True)) for row in rows]
    if not all(found.values()):
        raise Unreadable(f"{PAGE.name} lacks one of the tables {sorted(_HEADERS)}")
    columns = _HEADERS["case"]
    cases = [Case(row["#"].strip("`"), *(row[name] for name in columns[1:])) for row in found["case"]]
    return Page(found["network"], found["pool"], cases)


def _tables(text: str) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    lines: list[tuple[str, ...]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
            continue
        if len(lines) > 1:
            for row in lines[2:]:
                if len(row) != len(lines[0]):
                    raise Unreadable(f"{row}: not as many cells as {lines[0]}")
            yield lines[0], lines[2:]
        lines = []


def _several(cell: str, vocabulary: Vocabulary) -> list[Phrase]:
    return [_one(part.strip(), vocabulary) for part in cell.split(";") if part.strip()]


def _one(text: str, vocabulary: Vocabulary) -> Phrase:
    for kind, pattern in vocabulary.items():
        match = re.fullmatch(_pattern(pattern), text)
        if match is not None:
            words = {name: word for name, word in match.groupdict().items() if word is not None}
            return Phrase(kind, words, text)
    raise Unreadable(f"{text!r} is none of the phrases {', '.join(vocabulary)}")


def _pattern(phrase: str) -> str:
    optional = phrase.replace("[", "(?:").replace("]", ")?")
    return re.sub(r"\{([a-z]+)\}", lambda word: f"(?P<{word[1]}>{_WORDS[word[1]]})", optional)
