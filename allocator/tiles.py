"""A part of a network as tiles: how many addresses of each are in which state and pool. Pure, no I/O."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from allocator.maps import shown
from allocator.model import Pool
from allocator.ranges import is_inside
from schemas.address import MapState
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress, IPNetwork
from schemas.message import MAX_BODY_BYTES
from schemas.pool import AddressRange
from schemas.tiles import Tile, TilesView

TILE_BITS = 8
"""A tile's prefix is so many bits longer than that of what is cut: 256 tiles."""

_STATES: Sequence[MapState] = ("attached", "waiting", "quarantined", "cooling", "free", "reserved")
_POOLS = 5
_ENVELOPE_BYTES = 128
"""What an answer has around its result, and some to spare."""


@dataclass(frozen=True, slots=True)
class Grid:
    """`within`, cut into equal tiles that are numbered from 0."""

    within: IPNetwork

    @property
    def tile_prefix(self) -> int:
        """The length of each tile's prefix in bits."""
        return min(self.within.prefixlen + TILE_BITS, self.within.max_prefixlen)

    @property
    def tile_bits(self) -> int:
        """Each tile has 2 to the power of this many addresses."""
        return self.within.max_prefixlen - self.tile_prefix

    def first(self, tile: int) -> IPAddress:
        """The first address of a tile."""
        return self.within.network_address + (tile << self.tile_bits)

    def sizes(self, span: AddressRange) -> Iterator[tuple[int, int]]:
        """The tiles that `span` touches, and how many of its addresses are in each."""
        if span.first.version != self.within.version:
            return
        base, end = int(self.within.network_address), int(self.within.broadcast_address)
        low, high = max(int(span.first), base) - base, min(int(span.last), end) - base
        for tile in range(low >> self.tile_bits, (high >> self.tile_bits) + 1) if low <= high else ():
            start = tile << self.tile_bits
            yield tile, min(high, start + (1 << self.tile_bits) - 1) - max(low, start) + 1


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows of one pool in one tile are in one state; `cooling`: free, and not cooled down yet."""

    tile: int
    pool_id: int
    state: str
    cooling: bool
    count: int


@dataclass(slots=True)
class Counts:
    """One tile's addresses by state and by pool."""

    states: Counter[MapState] = field(default_factory=Counter)
    pools: Counter[str] = field(default_factory=Counter)


def grid_of(network: str, subnets: Collection[IPNetwork], within: IPNetwork) -> Grid:
    """Raises `range_invalid` unless `within` is, or lies inside, one of the subnets."""
    for subnet in subnets:
        if is_inside(within, subnet):
            return Grid(within)
    raise ServiceError(
        Code.RANGE_INVALID,
        f"{within} does not lie inside one subnet of network {network}: name one of them, or a part of one: "
        + ", ".join(map(str, subnets)),
        within=str(within),
        subnets=[str(subnet) for subnet in subnets],
    )


def counted(
    grid: Grid,
    parts: Iterable[tuple[AddressRange, int]],
    pools: Mapping[int, Pool],
    rows: Iterable[Rows],
    named: Collection[str] | None = None,
) -> dict[int, Counts]:
    """The tiles that have addresses, in order. `parts` are ranges and the ids of their pools.

    Of pools that are not `named` (None: all are) it is told only that their addresses are reserved.
    Ranges and rows are read one after the other: of what moved in between, no more is counted than is there.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for span, pool_id in parts:
        for tile, size in grid.sizes(span):
            sizes[tile, pool_id] += size
    found = {tile: Counts() for tile in sorted({tile for tile, _ in sizes})}
    blank = dict(sizes)
    for group in rows:
        at = (group.tile, group.pool_id)
        if at not in blank or not _is_named(pools[group.pool_id], named):
            continue
        untouched = pools[group.pool_id].blank
        state = shown(group.state, group.cooling, untouched)
        if state != untouched:
            count = min(group.count, blank[at])
            found[group.tile].states[state] += count
            blank[at] -= count
    for (tile, pool_id), size in sizes.items():
        pool = pools[pool_id]
        if _is_named(pool, named):
            found[tile].states[pool.blank] += blank[tile, pool_id]
            found[tile].pools[pool.name] += size
        else:
            found[tile].states["reserved"] += size
    return found


def _is_named(pool: Pool, named: Collection[str] | None) -> bool:
    return named is None or pool.name in named


def view(network: str, grid: Grid, tiles: Mapping[int, Counts]) -> TilesView:
    """The answer, with as many pools of each tile as a message has room for."""
    for most in range(_POOLS, -1, -1):
        made = TilesView(
            network=network,
            within=grid.within,
            tile_prefix=grid.tile_prefix,
            tiles=tuple(_tile(grid.first(tile), counts, most) for tile, counts in tiles.items()),
        )
        if len(made.model_dump_json()) <= MAX_BODY_BYTES - _ENVELOPE_BYTES:
            break
    return made


def _tile(first: IPAddress, counts: Counts, most: int) -> Tile:
    pools = sorted(counts.pools.items(), key=lambda item: (-item[1], item[0]))
    return Tile(
        first=first,
        total=str(sum(counts.states.values())),
        states={state: str(counts.states[state]) for state in _STATES if counts.states[state]},
        pools={name: str(count) for name, count in pools[:most]},
        more_pools=len(pools[most:]),
    )
