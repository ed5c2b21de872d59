"""What a batch knows of addresses and what it changes: rows in memory, loaded and written in bulk. No I/O.

Everything that the requests of a batch may need is put in first; then each request in turn is decided on
what is here, and sees what those before it changed; at the end the changes are written together.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from allocator.model import Allocation
from allocator.supply import Key, Place, Supply, key_of, place_of_row
from schemas.fields import IPAddress


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
        self._blanks: dict[Key, Place] = {}
        self.ended: set[UUID] = set()
        """Attachments whose end the history knows."""
        self.replaced: dict[UUID, tuple[UUID, ...]] = {}
        """What attachments took their addresses over from, as the history knows."""

    # What was found.

    def load(self, rows: Iterable[Allocation]) -> None:
        """Rows as the database has them. One that is here already stays as it is here."""
        for row in rows:
            key = key_of(row.network_id, row.address)
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
        """What is left of all supplies once the changes are written.

        Not of a pool in which a row was both made and freed: its id is not known.
        """
        gone: defaultdict[tuple[int, int], list[tuple[Key, datetime | None]]] = defaultdict(list)
        spoilt: set[tuple[int, int]] = set()
        for key in self._changed:
            row, before = self._rows[key], self._loaded.get(key)
            if before is None:
                gone[row.pool_id, row.family].append((key, None))
                if row.state == "free":
                    spoilt.add((row.pool_id, row.family))
            elif before.state == "free":
                gone[row.pool_id, row.family].append((key, before.since))
        for where, supply in self._supplies.items():
            supply.lose(gone.get(where, ()))
        return {where: supply for where, supply in self._supplies.items() if where not in spoilt}

    def note_mac(self, network_id: int, family: int, mac: str) -> None:
        """A MAC that a row carries which need not be here."""
        self._macs.add((network_id, family, mac))

    def note_blank(self, place: Place) -> None:
        """Where an address lies that a request named and that was never used."""
        self._blanks[key_of(place.network_id, place.address)] = place

    # What is asked.

    def at(self, network_id: int, address: IPAddress) -> Allocation | None:
        """The row of an address."""
        return self._rows.get(key_of(network_id, address))

    def place_at(self, network_id: int, address: IPAddress) -> Place | None:
        """Where an address lies that a request named; None where the network has no such address to give."""
        key = key_of(network_id, address)
        row = self._rows.get(key)
        return place_of_row(row) if row is not None else self._blanks.get(key)

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
        key = key_of(row.network_id, row.address)
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
