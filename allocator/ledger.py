"""What a batch knows of addresses and what it changes: rows in memory, loaded and written in bulk. No I/O.

Everything that the requests of a batch may need is put in first; then each request in turn is decided on
what is here, and sees what those before it changed; at the end the changes are written together.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from allocator.model import Allocation, Range, following
from schemas.fields import IPAddress

Key = tuple[int, IPAddress]
"""An address in a network."""


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

    def suffices(self, picks: int, cooled: datetime) -> bool:
        """Whether so many picks come out as if everything were here."""
        if not self.all_free and len(self.free) < picks:
            return False
        if self.all_fresh or len(self.fresh) >= picks:
            return True
        return len(self.free) >= picks and self.free[picks - 1].since <= cooled

    def best(self, rows: Mapping[Key, Allocation], cooled: datetime, *, restricted: bool) -> Place | None:
        """What is given out next: the longest free, else a never used, else a cooling one.

        Cooldown keeps an address unused for a while, so that peers and conntrack forget its last owner. In a
        pool restricted to its owners it is only a preference: they share what they have.
        """
        row = self._longest_free(rows)
        if row is not None and row.since <= cooled:
            return _of_row(row)
        while self.fresh and (self.fresh[0].network_id, self.fresh[0].address) in rows:
            self.fresh.popleft()
        if self.fresh:
            return self.fresh[0]
        return _of_row(row) if row is not None and restricted else None

    def _longest_free(self, rows: Mapping[Key, Allocation]) -> Allocation | None:
        while self.free:
            row = self.free[0]
            if rows.get((row.network_id, row.address), row) == row:
                return row
            self.free.popleft()
        return None

    def settle(self, rows: Mapping[Key, Allocation]) -> bool:
        """Leave out what changed. False where a row is in it whose id is not known yet: then it is of no
        further use.
        """
        self.free = deque(row for row in self.free if rows.get((row.network_id, row.address), row) == row)
        self.fresh = deque(place for place in self.fresh if (place.network_id, place.address) not in rows)
        return all(row.id for row in self.free)


def _of_row(row: Allocation) -> Place:
    return Place(row.network_id, row.address, row.pool_id, row.range_id, row)


@dataclass(frozen=True, slots=True)
class RangeChange:
    """How one range is to change: by how much `used`, and where its cursor goes, if anywhere."""

    range_id: int
    used: int
    moves_cursor: bool
    cursor: IPAddress | None


class Ledger:
    """The rows of one batch, of any number of networks."""

    def __init__(self) -> None:
        self._rows: dict[Key, Allocation] = {}
        self._loaded: dict[Key, Allocation] = {}
        self._changed: dict[Key, None] = {}
        self._by_attachment: defaultdict[UUID, dict[Key, None]] = defaultdict(dict)
        self._by_owner: defaultdict[tuple[int, str, str], dict[Key, None]] = defaultdict(dict)
        self._supplies: dict[tuple[int, int], Supply] = {}
        self._cursors: dict[int, IPAddress | None] = {}
        self._macs: set[tuple[int, int, str]] = set()
        self.places: dict[Key, Place] = {}
        """Where the addresses lie that requests named and that were never used."""
        self.ended: set[UUID] = set()
        """Attachments whose end the history knows."""
        self.replaced: dict[UUID, tuple[UUID, ...]] = {}
        """What attachments took their addresses over from, as the history knows."""

    # What was found.

    def load(self, rows: Iterable[Allocation]) -> None:
        """Rows as the database has them. One that is here already stays as it is here."""
        for row in rows:
            key = (row.network_id, row.address)
            if key not in self._rows:
                self._loaded[key] = row
                self._index(key, row)

    def offer(self, pool_id: int, family: int, supply: Supply) -> None:
        """What can be picked from one family of a pool."""
        self._supplies[pool_id, family] = supply

    def supply(self, pool_id: int, family: int) -> Supply | None:
        """What was offered, less what was picked."""
        return self._supplies.get((pool_id, family))

    def settled_supplies(self) -> dict[tuple[int, int], Supply]:
        """What is left of all supplies, once the changes are written."""
        return {key: supply for key, supply in self._supplies.items() if supply.settle(self._rows)}

    def note_mac(self, network_id: int, family: int, mac: str) -> None:
        """A MAC that a row carries which need not be here."""
        self._macs.add((network_id, family, mac))

    # What is asked.

    def at(self, network_id: int, address: IPAddress) -> Allocation | None:
        """The row of an address."""
        return self._rows.get((network_id, address))

    def of_attachment(self, attachment_id: UUID) -> tuple[Allocation, ...]:
        """The rows that this attachment has, in any network, IPv4 first."""
        return self._sorted(self._by_attachment.get(attachment_id, ()))

    def of_owner(self, network_id: int, owner: str, ifname: str) -> tuple[Allocation, ...]:
        """The rows that this interface of this owner has, or had last, IPv4 first."""
        return self._sorted(self._by_owner.get((network_id, owner, ifname), ()))

    def of_container(
        self, network_id: int, node: str, container_id: str, ifname: str
    ) -> tuple[Allocation, ...]:
        """The rows attached to one interface of one container on one node."""
        wanted = (network_id, node, container_id, ifname, "attached")
        keys = (
            key
            for key, row in self._rows.items()
            if (row.network_id, row.node, row.container_id, row.ifname, row.state) == wanted
        )
        return self._sorted(keys)

    def rows(self) -> tuple[Allocation, ...]:
        """All rows, as they are now."""
        return tuple(self._rows.values())

    def pick(self, pool_id: int, family: int, cooled: datetime, *, restricted: bool) -> Place | None:
        """A free address of a pool; None where there is none. `cooled`: free since then has cooled down."""
        supply = self._supplies.get((pool_id, family))
        return supply.best(self._rows, cooled, restricted=restricted) if supply is not None else None

    def has_mac(self, network_id: int, family: int, mac: str) -> bool:
        """Whether a row of this family is known to carry the MAC."""
        return (network_id, family, mac) in self._macs

    # What changes.

    def put(self, row: Allocation, place: Place | None = None) -> None:
        """The row is to be like this. `place` is where a never-used address was taken from."""
        key = (row.network_id, row.address)
        before = self._rows.get(key)
        if before is not None:
            self._forget(key, before)
        elif place is not None and place.row is not None:  # it came from a supply
            self._loaded[key] = place.row
        self._index(key, row)
        self._changed[key] = None
        if place is not None and place.moves_cursor:
            self._cursors[place.range_id] = place.next
        supply = self._supplies.get((row.pool_id, row.family))
        if row.state == "free" and supply is not None and supply.all_free:
            supply.free.append(row)  # else those that are not here are free longer

    def added(self) -> list[Allocation]:
        """The rows that the database does not have yet."""
        return [self._rows[key] for key in self._changed if key not in self._loaded]

    def changed(self) -> list[tuple[Allocation, Allocation]]:
        """The rows that the database has otherwise: as it has them, and as they are to be."""
        pairs = [(self._loaded[key], self._rows[key]) for key in self._changed if key in self._loaded]
        return [(before, after) for before, after in pairs if before != after]

    def ranges(self) -> list[RangeChange]:
        """What the changes come to for the ranges."""
        used: defaultdict[int, int] = defaultdict(int)
        for row in self.added():
            used[row.range_id] += row.state != "free"
        for before, after in self.changed():
            used[after.range_id] += (after.state != "free") - (before.state != "free")
        touched = sorted({range_id for range_id, by in used.items() if by} | set(self._cursors))
        return [
            RangeChange(range_id, used[range_id], range_id in self._cursors, self._cursors.get(range_id))
            for range_id in touched
        ]

    # Indexes.

    def _index(self, key: Key, row: Allocation) -> None:
        self._rows[key] = row
        if row.attachment_id is not None:
            self._by_attachment[row.attachment_id][key] = None
        if row.owner is not None:
            self._by_owner[row.network_id, row.owner, row.ifname or ""][key] = None
        if row.mac is not None:
            self._macs.add((row.network_id, row.family, row.mac))

    def _forget(self, key: Key, row: Allocation) -> None:
        if row.attachment_id is not None:
            self._by_attachment[row.attachment_id].pop(key, None)
        if row.owner is not None:
            self._by_owner[row.network_id, row.owner, row.ifname or ""].pop(key, None)
        if row.mac is not None:
            self._macs.discard((row.network_id, row.family, row.mac))

    def _sorted(self, keys: Iterable[Key]) -> tuple[Allocation, ...]:
        rows = [self._rows[key] for key in keys]
        if len(rows) > 1:
            rows.sort(key=_family_first)
        return tuple(rows)


def _family_first(row: Allocation) -> tuple[int, int]:
    return row.family, int(row.address)


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
