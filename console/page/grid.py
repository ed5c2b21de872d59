"""A part of a network as a grid of at most 256 cells: single addresses, or tiles to look into. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network

from schemas.address import AddressRun, AddressView
from schemas.fields import IPAddress, IPNetwork
from schemas.pool import DEFAULT_POOL
from schemas.tiles import TilesView

COLUMNS = 16
CELL_BITS = 8
"""A part with so few bits of its own is shown address by address."""
_COLOURS = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """One address, or one tile. `state` is None where nothing can be handed out."""

    name: str
    label: str
    state: str | None
    pool: str | None = None
    owner: str | None = None
    node: str | None = None
    since: datetime | None = None
    used: int = 0
    total: int = 1
    conflicts: int = 0
    within: str | None = None
    """What a tile leads to."""


@dataclass(frozen=True, slots=True)
class Grid:
    """All cells of a part of a network, row by row, and how many addresses are in which state."""

    within: IPNetwork
    cells: Sequence[Cell]
    counts: Mapping[str, int]
    tiled: bool

    @property
    def rows(self) -> list[Sequence[Cell]]:
        """The cells in rows."""
        return [self.cells[at : at + COLUMNS] for at in range(0, len(self.cells), COLUMNS)]


def is_tiled(within: IPNetwork) -> bool:
    """Whether a part is too large to be shown address by address."""
    return within.max_prefixlen - within.prefixlen > CELL_BITS


def of_addresses(within: IPNetwork, runs: Iterable[AddressRun], rows: Iterable[AddressView]) -> Grid:
    """The cells of single addresses: runs tell state and pool, rows who has one."""
    states: dict[int, tuple[str, str]] = {}
    counts: Counter[str] = Counter()
    low, high = int(within.network_address), int(within.broadcast_address)
    for run in runs:
        for number in range(max(low, int(run.first)), min(high, int(run.last)) + 1):
            states[number] = (run.state, run.pool)
            counts[run.state] += 1
    held = {int(row.address): row for row in rows}
    cells = [_cell(within, number, states.get(number), held.get(number)) for number in range(low, high + 1)]
    return Grid(within, cells, counts, tiled=False)


def _cell(within: IPNetwork, number: int, found: tuple[str, str] | None, row: AddressView | None) -> Cell:
    address = _address(within, number)
    name, label = str(address), _short(address)
    if found is None:
        return Cell(name, label, None)
    state, pool = found
    if row is None or state in {"free", "reserved"}:
        return Cell(name, label, state, pool)
    return Cell(name, label, state, pool, row.owner if state != "cooling" else None, row.node, row.since)


def _address(within: IPNetwork, number: int) -> IPAddress:
    return within.network_address + (number - int(within.network_address))


def _short(address: IPAddress) -> str:
    """What tells an address from its neighbours: the last byte, in each family's own way."""
    return str(int(address) & 255) if address.version == 4 else f"{int(address) & 255:02x}"


def of_tiles(view: TilesView) -> Grid:
    """The cells of tiles; a tile without an address to hand out is an empty cell."""
    by_first = {tile.first: tile for tile in view.tiles}
    counts: Counter[str] = Counter()
    cells: list[Cell] = []
    size = 1 << (view.within.max_prefixlen - view.tile_prefix)
    for at in range(1 << (view.tile_prefix - view.within.prefixlen)):
        first = view.within.network_address + at * size
        tile = by_first.get(first)
        name = f"{first}/{view.tile_prefix}"
        if tile is None:
            cells.append(Cell(name, _tile_label(first, view.tile_prefix), None))
            continue
        for state, count in tile.states.items():
            counts[state] += int(count)
        blank = sum(int(tile.states.get(state, 0)) for state in ("free", "cooling", "reserved"))
        total = int(tile.total)
        cells.append(
            Cell(
                name,
                _tile_label(first, view.tile_prefix),
                "tile",
                pool=next((name for name in tile.pools if name != DEFAULT_POOL), None),
                used=total - blank,
                total=total,
                conflicts=int(tile.states.get("quarantined", 0)),
                within=name,
            )
        )
    return Grid(view.within, cells, counts, tiled=True)


def _tile_label(first: IPAddress, prefix: int) -> str:
    """The last bytes, or group, that tell a tile from its neighbours."""
    if first.version == 4:
        last = (prefix - 1) // 8
        return ".".join(str(first).split(".")[max(0, last - (prefix % 8 > 0)) : last + 1])
    group = (prefix - 1) // 16
    return first.exploded.split(":")[group].lstrip("0") or "0"


def colour_of(pool: str | None, pools: Sequence[str]) -> int:
    """The number of a pool's colour; the default pool has 0, which is none."""
    if pool is None or pool == DEFAULT_POOL or pool not in pools:
        return 0
    return [name for name in pools if name != DEFAULT_POOL].index(pool) % _COLOURS + 1


def trail(subnet: IPNetwork, within: IPNetwork) -> list[IPNetwork]:
    """The way from a subnet to a part of it, in the steps that the grid takes."""
    steps = [subnet]
    while steps[-1].prefixlen + CELL_BITS <= within.prefixlen:
        steps.append(_part_of(within.network_address, steps[-1].prefixlen + CELL_BITS))
    if steps[-1] != within:
        steps.append(within)
    return steps


def _part_of(address: IPAddress, prefix: int) -> IPNetwork:
    return ip_network(f"{address}/{prefix}", strict=False)


def part_around(subnet: IPNetwork, address: IPAddress) -> IPNetwork:
    """The smallest part of a subnet that the grid comes to and that has the address."""
    prefix = subnet.prefixlen
    while address.max_prefixlen - prefix > CELL_BITS:
        prefix += CELL_BITS
    return _part_of(address, prefix)
