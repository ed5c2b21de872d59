"""A part of a network as tiles, without a database: that they are what the map says, summed."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.maps import runs
from allocator.model import Pool
from allocator.ranges import overlap, within_subnets
from allocator.tiles import Counts, Grid, Rows, counted, grid_of, view
from schemas.errors import ServiceError
from schemas.fields import IPAddress, IPNetwork
from schemas.message import MAX_BODY_BYTES
from schemas.pool import AddressRange
from schemas.tiles import TilesView

NOW = datetime(2026, 3, 1, 14, 5)
POOLS = {
    1: Pool(1, "default", "shared", (), cooldown_s=120),
    2: Pool(2, "web", "pinned", ("shop/web-*",), cooldown_s=0),
    3: Pool(3, "lab", "reserved", (), cooldown_s=300),
}
STATES = ("attached", "waiting", "quarantined", "free")

Part = tuple[AddressRange, int]
Row = tuple[IPAddress, str, datetime]


def span(text: str) -> AddressRange:
    return AddressRange.model_validate(text)


def shown(within: str, parts: list[tuple[str, int]], *rows: Rows) -> list[dict[str, Any]]:
    grid = Grid(ip_network(within))
    found = counted(grid, [(span(text), pool) for text, pool in parts], POOLS, rows)
    tiles = view("prod", grid, found).model_dump(mode="json")["tiles"]
    return [{**tile, "first": str(tile["first"])} for tile in tiles]


def test_of_pools_that_are_not_named_it_tells_only_that_they_are_taken():
    parts = [(span("10.1.0.0-10.1.0.9"), 1), (span("10.1.0.10-10.1.0.19"), 2)]
    grid = Grid(ip_network("10.1.0.0/24"))
    names = sorted(pool.name for pool in POOLS.values() if pool.id in (1, 2))
    rows = [
        Rows(0, 1, "attached", False, 1),
        Rows(5, 1, "attached", False, 1),
        Rows(12, 2, "waiting", False, 1),
    ]
    told = counted(grid, parts, POOLS, rows, names[:1])
    everything = counted(grid, parts, POOLS, rows)
    hidden = [tile for tile, counts in everything.items() if names[0] not in counts.pools]
    assert len(told) == len(everything) == 20
    assert len(hidden) == 10
    for tile, counts in told.items():
        assert counts == everything[tile] if tile not in hidden else counts.states == {"reserved": 1}
        assert not counts.pools or tile not in hidden


def test_a_tile_counts_what_is_free_without_a_row_or_with_one_that_has_cooled():
    tiles = shown(
        "10.1.0.0/16",
        [("10.1.0.1-10.1.0.9", 1), ("10.1.0.10-10.1.0.19", 2), ("10.1.0.20-10.1.2.3", 1)],
        Rows(0, 1, "attached", False, 3),
        Rows(0, 1, "free", True, 2),
        Rows(0, 1, "free", False, 40),
        Rows(0, 2, "waiting", False, 10),
    )
    assert tiles == [
        {
            "first": "10.1.0.0",
            "total": "255",
            "states": {"attached": "3", "waiting": "10", "cooling": "2", "free": "240"},
            "pools": {"default": "245", "web": "10"},
            "more_pools": 0,
        },
        {
            "first": "10.1.1.0",
            "total": "256",
            "states": {"free": "256"},
            "pools": {"default": "256"},
            "more_pools": 0,
        },
        {
            "first": "10.1.2.0",
            "total": "4",
            "states": {"free": "4"},
            "pools": {"default": "4"},
            "more_pools": 0,
        },
    ]


def test_in_a_reserved_pool_nothing_is_free_or_cooling():
    rows = (Rows(0, 3, "free", True, 1), Rows(0, 3, "free", False, 1), Rows(0, 3, "quarantined", False, 1))
    (tile,) = shown("10.1.0.0/24", [("10.1.0.0-10.1.0.0", 3)])
    assert tile["states"] == {"reserved": "1"}
    (tile,) = shown("10.1.0.0/16", [("10.1.0.10-10.1.0.19", 3)], *rows)
    assert tile["states"] == {"quarantined": "1", "reserved": "9"}


def test_counts_outgrow_json_numbers():
    tiles = shown("fd00:1::/56", [("fd00:1::1-fd00:1:0:ff:ffff:ffff:ffff:ffff", 1)])
    assert len(tiles) == 256
    assert tiles[0] | {"states": 0, "pools": 0} == {
        "first": "fd00:1::",
        "total": str((1 << 64) - 1),
        "states": 0,
        "pools": 0,
        "more_pools": 0,
    }
    assert (tiles[255]["first"], tiles[255]["states"]) == ("fd00:1:0:ff::", {"free": str(1 << 64)})


@pytest.mark.parametrize(("length", "prefix"), [(8, 16), (20, 28), (24, 32), (29, 32), (32, 32)])
def test_a_tile_is_eight_bits_longer_and_at_least_one_address(length: int, prefix: int):
    assert Grid(ip_network(f"10.0.0.0/{length}")).tile_prefix == prefix


@pytest.mark.parametrize(("length", "prefix"), [(32, 40), (64, 72), (120, 128), (126, 128)])
def test_so_is_one_of_ipv6(length: int, prefix: int):
    assert Grid(ip_network(f"fd00::/{length}")).tile_prefix == prefix


def test_of_what_moved_between_two_reads_no_more_is_counted_than_is_there():
    rows = (Rows(0, 1, "attached", False, 3), Rows(0, 2, "attached", False, 3), Rows(0, 9, "free", True, 1))
    (tile,) = shown("10.1.0.0/16", [("10.1.0.1-10.1.0.2", 1)], *rows)
    assert (tile["total"], tile["states"]) == ("2", {"attached": "2"})


@pytest.mark.parametrize("within", ["10.0.0.0/8", "10.2.0.0/24", "fd00::/64", "::ffff:10.1.0.0/120", "::/0"])
def test_what_is_not_inside_one_subnet_is_refused_with_those_there_are(within: str):
    subnets = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/64")]
    with pytest.raises(ServiceError, match=r"10\.1\.0\.0/16, fd00:1::/64") as caught:
        grid_of("prod", subnets, ip_network(within))
    assert caught.value.code == "range_invalid"


def crowded(within: str, name: str, pools: int, count: int) -> TilesView:
    tile = Counts(
        Counter(dict.fromkeys(("attached", "waiting", "quarantined", "cooling"), 10**6)),
        Counter({f"{name}{number}": count - number for number in range(pools)}),
    )
    tile.states["free"] = tile.states["reserved"] = count
    return view("n" * 63, Grid(ip_network(within)), dict.fromkeys(range(256), tile))


@pytest.mark.parametrize("within", ["2001:db8:1111:2200::/56", "2001:db8:1111:2222::/64", "128.0.0.0/8"])
@pytest.mark.parametrize("name", ["web-", "a-very-long-name-" * 3])
def test_256_full_tiles_fit_into_a_message(within: str, name: str):
    made = crowded(within, name, 20, 1 << Grid(ip_network(within)).tile_bits)
    assert len(made.tiles) == 256
    assert len(b'{"result":' + made.model_dump_json().encode() + b',"error":null}') <= MAX_BODY_BYTES
    assert {len(tile.pools) + tile.more_pools for tile in made.tiles} == {20}


def test_the_biggest_pools_are_named_first():
    made = crowded("10.0.0.0/28", "web-", 7, 16)
    assert list(made.tiles[0].pools.items())[:2] == [("web-0", "16"), ("web-1", "15")]


# Against the map.


def networks(version: int) -> st.SearchStrategy[IPNetwork]:
    base, most = ("10.1.2.0", 32) if version == 4 else ("fd00:1:2:3:4:5:6:700", 128)
    lengths = st.integers(most - 12, most)
    return lengths.map(lambda length: ip_network(f"{base}/{length}", strict=False))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[IPNetwork, list[Part], list[Row]]:
    """Ranges in and around a network, each of a pool, and rows in them."""
    within = draw(st.sampled_from((4, 6)).flatmap(networks))
    origin = int(within.network_address) - 64
    kind = type(within.network_address)
    cuts = draw(st.lists(st.integers(0, within.num_addresses + 127), min_size=2, max_size=12, unique=True))
    cuts.sort()
    parts: list[Part] = []
    for low, high in zip(cuts[::2], cuts[1::2], strict=False):
        first, last = kind(origin + low), kind(origin + high)
        parts.append((AddressRange(first=first, last=last), draw(st.sampled_from(sorted(POOLS)))))
    rows: list[Row] = []
    for part, _ in parts:
        places = st.integers(int(part.first), int(part.last))
        for place in sorted(draw(st.sets(places, max_size=8))):
            age = timedelta(seconds=draw(st.sampled_from((0, 119, 120, 121, 299, 300))))
            rows.append((kind(place), draw(st.sampled_from(STATES)), NOW - age))
    return within, parts, rows


def grouped(grid: Grid, parts: list[Part], rows: list[Row]) -> list[Rows]:
    """What the database counts."""
    groups: Counter[tuple[int, int, str, bool]] = Counter()
    for address, state, since in rows:
        if address in grid.within:
            pool = next(pool for part, pool in parts if int(part.first) <= int(address) <= int(part.last))
            tile = (int(address) - int(grid.within.network_address)) >> grid.tile_bits
            groups[tile, pool, state, state == "free" and since > POOLS[pool].cooled(NOW)] += 1
    return [Rows(*key, count) for key, count in groups.items()]


def summed(grid: Grid, parts: list[Part], rows: list[Row]) -> Iterator[tuple[str, str, str, int]]:
    """Tile, pool, state and count of each address of the map."""
    tiles = (
        [grid.within]
        if grid.tile_prefix == grid.within.prefixlen
        else grid.within.subnets(new_prefix=grid.tile_prefix)
    )
    for tile in tiles:
        for part, pool in parts:
            for clipped in overlap([part], within_subnets([tile], grid.within)):
                inside = [row for row in rows if int(clipped.first) <= int(row[0]) <= int(clipped.last)]
                for run in runs(clipped, POOLS[pool], inside, NOW):
                    yield str(tile.network_address), run.pool, run.state, run.count


@given(pictures())
def test_tiles_are_the_runs_of_the_map_summed(picture: tuple[IPNetwork, list[Part], list[Row]]):
    within, parts, rows = picture
    grid = Grid(within)
    states: Counter[tuple[str, str]] = Counter()
    pools: Counter[tuple[str, str]] = Counter()
    for first, pool, state, count in summed(grid, parts, rows):
        states[first, state] += count
        pools[first, pool] += count
    made = view("prod", grid, counted(grid, parts, POOLS, grouped(grid, parts, rows)))
    assert [tile.first for tile in made.tiles] == sorted({ip_address(first) for first, _ in pools}, key=int)
    told = [(str(tile.first), state, int(n)) for tile in made.tiles for state, n in tile.states.items()]
    assert sorted(told) == sorted((first, state, n) for (first, state), n in states.items())
    named = [(str(tile.first), pool, int(n)) for tile in made.tiles for pool, n in tile.pools.items()]
    assert sorted(named) == sorted((first, pool, n) for (first, pool), n in pools.items())
    assert all(int(tile.total) == sum(map(int, tile.states.values())) for tile in made.tiles)
