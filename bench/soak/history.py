"""Who held which address when, as the database's history tells it, and what may not stand there. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from bench.soak.ledger import Violation
from schemas.fields import IPAddress

GAIN = frozenset({"address.attached", "address.adopted"})
RELEASED = frozenset({"address.waiting", "address.freed"})
TAKEN_OVER = "address.taken_over"
QUARANTINED = "address.quarantined"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row about an address; `at` is the database's time."""

    network: str
    seq: int
    at: datetime
    event: str
    address: IPAddress
    owner: str | None = None
    pool: str | None = None
    mac: str | None = None
    node: str | None = None
    container_id: str | None = None
    attachment_id: UUID | None = None


@dataclass
class Held:
    """One attachment's time with one address."""

    gained: Entry
    lost: Entry | None = None

    def __str__(self) -> str:
        until = f"{self.lost.at:%H:%M:%S.%f} ({self.lost.event})" if self.lost else "the end"
        entry = self.gained
        return (
            f"{entry.owner} ({entry.container_id} on {entry.node}, attachment {entry.attachment_id}) from "
            f"{entry.at:%H:%M:%S.%f}, seq {entry.seq}, to {until}"
        )


@dataclass
class History:
    """Who held what, in the order of `seq`, and what was wrong with it."""

    holders: dict[tuple[str, IPAddress], list[Held]] = field(default_factory=lambda: defaultdict(list))
    violations: list[Violation] = field(default_factory=list)

    @classmethod
    def read(cls, entries: Iterable[Entry]) -> "History":
        """From all rows about addresses, of any number of networks."""
        history = cls()
        for entry in sorted(entries, key=lambda entry: (entry.network, entry.seq)):
            history._enter(entry)
        return history

    def _enter(self, entry: Entry) -> None:
        holders = self.holders[entry.network, entry.address]
        if entry.event in GAIN:
            self._gained(entry, holders)
        elif entry.attachment_id is not None:
            held = next((h for h in holders if h.gained.attachment_id == entry.attachment_id), None)
            if held is not None and held.lost is None:
                held.lost = entry
        if entry.event == QUARANTINED:
            seen = f"{entry.address} of network {entry.network}, {entry.owner} on {entry.node}: {entry}"
            self._violate("somebody else was heard with an address", seen)

    def _gained(self, entry: Entry, holders: list[Held]) -> None:
        here = Held(entry)
        for other in holders:
            if other.lost is None or other.lost.at > entry.at:
                seen = f"{entry.address} of network {entry.network}: {other}; {here}"
                self._violate("history gives an address to two", seen)
        holders.append(here)

    def _violate(self, rule: str, seen: str) -> None:
        self.violations.append(Violation(rule, seen))

    @property
    def held(self) -> list[Held]:
        """All of them."""
        return [held for several in self.holders.values() for held in several]


def changed_owners(history: History, pinned_pools: Iterable[str]) -> list[Violation]:
    """Owners in pinned pools that were given another address of a family, or another MAC, than before."""
    pools = frozenset(pinned_pools)
    given: dict[tuple[str, str | None, int], list[Held]] = defaultdict(list)
    for held in sorted(history.held, key=lambda held: held.gained.seq):
        entry = held.gained
        if entry.pool in pools:
            given[entry.network, entry.owner, entry.address.version].append(held)
    violations = []
    for (network, owner, _), several in given.items():
        had = {(held.gained.address, held.gained.mac) for held in several}
        if len(had) > 1:
            told = "; ".join(f"{held.gained.address} with {held.gained.mac}: {held}" for held in several)
            violations.append(Violation("a pinned owner has changed", f"{owner} in {network}: {told}"))
    return violations


def heard_outside(
    history: History, spans: Mapping[tuple[str, str, IPAddress], tuple[datetime, datetime]]
) -> list[Violation]:
    """What the watcher saw live at a time when history does not have it: before it was given, or once freed.

    What is taken over on one node is given to the successor first, and cut before that one's endpoint is
    completed: there the end in history says nothing about the kernel.
    """
    times: dict[tuple[str, str, IPAddress], list[Held]] = defaultdict(list)
    for held in history.held:
        entry = held.gained
        times[entry.network, entry.container_id or "", entry.address].append(held)
    violations = []
    for (network, container_id, address), (first, last) in spans.items():
        own = times.get((network, container_id, address), ())
        if any(_within(held, first, last) for held in own):
            continue
        had = "; ".join(map(str, own)) or "never"
        seen = (
            f"{address} of network {network} in {container_id} from {first:%H:%M:%S.%f} to "
            f"{last:%H:%M:%S.%f}; history has it there: {had}"
        )
        violations.append(Violation("an address is live that is not the pod's", seen))
    return violations


def _within(held: Held, first: datetime, last: datetime) -> bool:
    if first < held.gained.at:
        return False
    ended = held.lost.at if held.lost is not None and held.lost.event in RELEASED else None
    return ended is None or last <= ended
