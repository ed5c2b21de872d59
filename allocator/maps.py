"""An address map: all addresses of ranges as runs of one state, without listing single ones. Pure, no I/O."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from allocator.model import Pool
from schemas.address import MapState
from schemas.fields import IPAddress
from schemas.pool import AddressRange


@dataclass(slots=True)
class Run:
    """Neighbouring addresses of one pool in one state."""

    first: IPAddress
    last: IPAddress
    pool: str
    state: MapState

    @property
    def count(self) -> int:
        """How many addresses it has."""
        return int(self.last) - int(self.first) + 1


def runs(
    span: AddressRange, pool: Pool, rows: Iterable[tuple[IPAddress, str, datetime]], now: datetime
) -> Iterator[Run]:
    """The runs of one range of `pool`. `rows` are its rows: address, state and since, ascending."""
    blank = pool.blank
    cooled = pool.cooled(now)
    at: IPAddress | None = span.first
    for address, state, since in rows:
        if at is not None and int(at) < int(address):
            yield Run(at, address - 1, pool.name, blank)
        yield Run(address, address, pool.name, shown(state, since > cooled, blank))
        at = address + 1 if address != span.last else None
    if at is not None:
        yield Run(at, span.last, pool.name, blank)


def shown(state: str, cooling: bool, blank: MapState) -> MapState:
    """What a row's state is shown as where what has no row is `blank`."""
    match state:
        case "attached" | "waiting" | "quarantined":
            return state
        case _:
            return "cooling" if cooling and blank == "free" else blank


def joined(parts: Iterable[Run]) -> Iterator[Run]:
    """The same with neighbours of one pool and state as one run."""
    current: Run | None = None
    for part in parts:
        if current is not None and _continues(current, part):
            current.last = part.last
            continue
        if current is not None:
            yield current
        current = part
    if current is not None:
        yield current


def _continues(one: Run, other: Run) -> bool:
    return (one.pool, one.state, one.first.version) == (other.pool, other.state, other.first.version) and int(
        one.last
    ) + 1 == int(other.first)
