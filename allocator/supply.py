"""What can be picked from a pool: its longest-free rows and its next never-used addresses. Pure, no I/O."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address

from allocator.model import Allocation, Range, following
from schemas.fields import IPAddress

Key = tuple[int, int]
"""An address in a network, as numbers, which are hashed faster: an IPv6 address as a negative one."""


def key_of(network_id: int, address: IPAddress) -> Key:
    """The key of an address in a network."""
    number = int(address)
    return network_id, number if isinstance(address, IPv4Address) else -number


@dataclass(frozen=True, slots=True)
class Place:
    """An address that can be given to somebody: its row, if it was ever used, and the range it lies in.

    `next` is the cursor of the range once a never-used address is taken from it; None where the cursor stays.
    """

    network_id: int
    address: IPAddress
    pool_id: int
    range_id: int
    row: Allocation | None = None
    moves_cursor: bool = False
    next: IPAddress | None = None

    def blank(self, now: datetime) -> Allocation:
        """The row that this becomes, before anybody has it."""
        if self.row is not None:
            return self.row
        return Allocation(
            id=0,
            range_id=self.range_id,
            pool_id=self.pool_id,
            network_id=self.network_id,
            address=self.address,
            state="free",
            since=now,
        )


@dataclass(slots=True)
class Supply:
    """What can be picked from one family of one pool: as much as the batch may need."""

    free: deque[Allocation] = field(default_factory=deque)
    """Free rows, the longest free first. One that changed since is passed over."""
    fresh: deque[Place] = field(default_factory=deque)
    """Never-used addresses, in order. One that has a row by now is passed over."""
    all_free: bool = False
    """Whether these are all free rows of the pool, not only the longest free ones."""
    all_fresh: bool = False
    """Whether these are all never-used addresses of the pool."""
    gone: set[tuple[Key, datetime | None]] = field(default_factory=set)
    """What earlier batches took out of the middle: rows by when they became free, and the never used."""

    def copy(self) -> "Supply":
        """Another one, from which can be picked without this one's changing."""
        return replace(self, free=self.free.copy(), fresh=self.fresh.copy(), gone=self.gone.copy())

    def suffices(self, picks: int, cooled: datetime) -> bool:
        """Whether so many picks come out as if everything were here."""
        reach = picks + len(self.gone)
        if not self.all_free and len(self.free) < reach:
            return False
        if self.all_fresh or len(self.fresh) >= reach:
            return True
        return len(self.free) >= reach and self.free[reach - 1].since <= cooled

    def best(self, rows: Mapping[Key, Allocation], cooled: datetime, *, restricted: bool) -> Place | None:
        """What is given out next: the longest free, else a never used, else a cooling one.

        Cooldown keeps an address unused for a while, so that peers and conntrack forget its last owner. In a
        pool restricted to its owners it is only a preference: they share what they have.
        """
        row = self._longest_free(rows)
        if row is not None and row.since <= cooled:
            return place_of_row(row)
        while self.fresh:
            place = self.fresh[0]
            key = key_of(place.network_id, place.address)
            if key not in rows and (key, None) not in self.gone:
                return place
            self.fresh.popleft()
        return place_of_row(row) if row is not None and restricted else None

    def _longest_free(self, rows: Mapping[Key, Allocation]) -> Allocation | None:
        while self.free:
            row = self.free[0]
            key = key_of(row.network_id, row.address)
            if rows.get(key, row) == row and (key, row.since) not in self.gone:
                return row
            self.free.popleft()
        return None

    def lose(self, gone: Iterable[tuple[Key, datetime | None]]) -> None:
        """Note what a batch took. What it picked stood in front and is left out, the rest is kept in mind."""
        self.gone.update(gone)
        while self.free and self._discard(self.free[0], self.free[0].since):
            self.free.popleft()
        while self.fresh and self._discard(self.fresh[0], None):
            self.fresh.popleft()

    def _discard(self, at: Allocation | Place, since: datetime | None) -> bool:
        found = (key_of(at.network_id, at.address), since)
        known = found in self.gone
        self.gone.discard(found)
        return known


def place_of_row(row: Allocation) -> Place:
    """Where a row is."""
    return Place(row.network_id, row.address, row.pool_id, row.range_id, row)


def fresh_places(
    network_id: int,
    part: Range,
    cursor: IPAddress,
    until: IPAddress,
    taken: Iterable[IPAddress],
    wanted: int,
) -> list[Place]:
    """Up to `wanted` never-used addresses of a range, from `cursor` to `until`, without those `taken`."""
    used = set(taken)
    found: list[Place] = []
    address: IPAddress | None = cursor
    while address is not None and len(found) < wanted:
        if address not in used:
            after = following(address, part.last)
            found.append(Place(network_id, address, part.pool_id, part.id or 0, None, True, after))
        address = following(address, until)
    return found
