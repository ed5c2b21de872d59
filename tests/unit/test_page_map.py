"""The address map: which cells a part of a network has, and how light its page is."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from console.page import grid
from schemas.address import AddressList, AddressMap, AddressMapPage, AddressPage, AddressRun
from schemas.errors import Code, ServiceError
from schemas.network import NetworkShow
from schemas.tiles import AddressTiles, TilesView
from tests.visitors import Visited, address, network, tiles

NET = ip_network("10.1.0.0/24")


def run(first: str, last: str, state: str, pool: str = "default") -> AddressRun:
    count = int(ip_address(last)) - int(ip_address(first)) + 1
    return AddressRun.model_validate(
        {"first": first, "last": last, "state": state, "pool": pool, "count": str(count)}
    )


def test_a_cell_tells_state_pool_owner_node_and_since():
    row = address("10.1.0.8", node="node-1")
    found = grid.of_addresses(
        NET, [run("10.1.0.2", "10.1.0.7", "free"), run("10.1.0.8", "10.1.0.8", "attached", "web")], [row]
    )
    cell = found.cells[8]
    assert (cell.name, cell.label, cell.state, cell.pool) == ("10.1.0.8", "8", "attached", "web")
    assert (cell.owner, cell.node, cell.since) == ("shop/web-0", "node-1", row.since)
    assert found.cells[0].state is None  # the network's own address
    assert found.counts == {"free": 6, "attached": 1}
    assert [len(cells) for cells in found.rows] == [16] * 16


def test_what_was_freed_names_no_owner_any_more():
    row = address("10.1.0.8", state="free")
    for state in ("cooling", "free"):
        cell = grid.of_addresses(NET, [run("10.1.0.8", "10.1.0.8", state)], [row]).cells[8]
        assert (cell.state, cell.owner) == (state, None)


def test_runs_that_reach_further_are_counted_within_the_part_alone():
    found = grid.of_addresses(ip_network("10.1.0.16/28"), [run("10.1.0.1", "10.1.0.254", "free")], [])
    assert (len(found.cells), found.counts) == (16, {"free": 16})


def test_a_v6_cell_is_labelled_by_its_last_byte():
    part = ip_network("fd00::1200/120")
    found = grid.of_addresses(part, [run("fd00::1201", "fd00::12ff", "free")], [])
    assert [cell.label for cell in found.cells[:2]] == ["00", "01"]
    assert found.cells[-1].name == "fd00::12ff"


@pytest.mark.parametrize(
    ("within", "labels"),
    [("10.0.0.0/8", ["0", "1", "2"]), ("10.7.0.0/16", ["0", "1", "2"]), ("fd00::/64", ["0", "100", "200"])],
)
def test_tiles_are_labelled_by_what_tells_them_apart(within: str, labels: list[str]):
    found = grid.of_tiles(tiles(AddressTiles.model_validate({"network": "prod", "within": within})))
    assert [cell.label for cell in found.cells[:3]] == labels
    assert len(found.cells) == 256
    assert found.cells[-1].state is None  # it was not told of: nothing can be handed out there


def test_a_tile_leads_to_its_part_and_tells_how_full_it_is_and_of_conflicts():
    tile = {
        "first": "10.1.0.0",
        "total": "65536",
        "states": {"free": "65000", "attached": "500", "cooling": "20", "reserved": "10", "quarantined": "6"},
        "pools": {"default": "65000", "web": "536"},
    }
    view = TilesView.model_validate(
        {"network": "prod", "within": "10.0.0.0/8", "tile_prefix": 16, "tiles": [tile]}
    )
    cell = grid.of_tiles(view).cells[1]
    assert (cell.within, cell.used, cell.total, cell.conflicts) == ("10.1.0.0/16", 506, 65536, 6)
    assert cell.pool == "web"  # what was carved out shows, however small


@pytest.mark.parametrize(
    ("subnet", "sought", "part", "steps"),
    [
        ("10.0.0.0/8", "10.7.9.3", "10.7.9.0/24", ["10.0.0.0/8", "10.7.0.0/16", "10.7.9.0/24"]),
        ("10.1.0.0/24", "10.1.0.7", "10.1.0.0/24", ["10.1.0.0/24"]),
        ("10.1.0.0/29", "10.1.0.3", "10.1.0.0/29", ["10.1.0.0/29"]),
        ("10.1.0.0/20", "10.1.9.3", "10.1.9.0/28", ["10.1.0.0/20", "10.1.9.0/28"]),
    ],
)
def test_an_address_is_come_to_by_the_steps_that_a_person_would_take(
    subnet: str, sought: str, part: str, steps: list[str]
):
    found = grid.part_around(ip_network(subnet), ip_address(sought))
    assert str(found) == part
    assert [str(step) for step in grid.trail(ip_network(subnet), found)] == steps


def test_a_64_is_seven_steps_deep_and_no_step_has_more_than_256_cells():
    found = grid.part_around(ip_network("fd00::/64"), ip_address("fd00::1:2:3:4"))
    steps = grid.trail(ip_network("fd00::/64"), found)
    assert [step.prefixlen for step in steps] == [64, 72, 80, 88, 96, 104, 112, 120]
    assert [grid.is_tiled(step) for step in steps] == [True] * 7 + [False]


def test_pools_keep_their_colour_whatever_part_is_shown():
    names = ["a", "default", "web", *(f"p{number}" for number in range(10))]
    assert (grid.colour_of("default", names), grid.colour_of(None, names)) == (0, 0)
    assert (grid.colour_of("a", names), grid.colour_of("web", names)) == (1, 2)
    assert grid.colour_of("others", names) == 0
    assert {grid.colour_of(name, names) for name in names} == set(range(9))


WIDE = {"subnets": [{"cidr": "10.0.0.0/8"}, {"cidr": "fd00::/64"}]}
WIDE_NET = {NetworkShow: lambda asked: network(asked.network, definition=WIDE)}


async def test_a_wide_network_is_looked_into_step_by_step(tmp_path: Path):
    web = Visited(tmp_path, WIDE_NET)
    async with web.browser() as client:
        first = await client.get("/networks/prod")
        second = await client.get("/networks/prod/map?within=10.1.0.0%2F16")
        other = await client.get("/networks/prod/map?within=fd00::%2F72")
    assert 'href="/networks/prod?within=10.1.0.0/16"' in first.text
    assert 'href="/networks/prod?within=10.1.1.0/24"' in second.text
    assert 'href="/networks/prod?within=10.0.0.0/8"' in second.text  # the way back
    assert 'href="/networks/prod?within=fd00%3A%3A1%3A0%3A0%3A0/80"' in other.text
    looked = [str(asked.within) for asked in web.asked_of(AddressTiles)]
    assert looked == ["10.0.0.0/8", "10.1.0.0/16", "fd00::/72"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("within=10.2.0.0/24", 422),
        ("within=10.1.0.1/24", 422),
        ("within=everything", 422),
        ("within=fd00::/120", 422),
        ("at=10.2.0.7", 422),
        ("at=nothing", 422),
        ("at=10.1.0.7", 200),
        ("at=%20", 200),
    ],
)
async def test_only_parts_of_the_network_are_shown(tmp_path: Path, query: str, status: int):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await client.get(f"/networks/prod?{query}")
    assert answer.status_code == status


async def test_an_owner_is_gone_to_by_its_name(tmp_path: Path):
    def rows(asked: AddressList) -> AddressPage:
        return AddressPage(
            addresses=(address("10.1.0.8", owner="shop/web-1"),) if asked.owner != "shop/x" else ()
        )

    web = Visited(tmp_path, {AddressList: rows})
    async with web.browser() as client:
        found = await client.get("/networks/prod?at=shop/web-1")
        unknown = await client.get("/networks/prod?at=shop/x")
    assert 'data-sought="10.1.0.8"' in found.text
    assert unknown.status_code == 404
    assert "shop/x has no address" in unknown.text


async def test_a_full_page_of_long_owners_stays_light(tmp_path: Path):
    runs = tuple(
        run(f"10.1.0.{n}", f"10.1.0.{n}", "attached" if n % 2 else "waiting", "web") for n in range(1, 255)
    )
    rows = tuple(
        address(f"10.1.0.{n}", owner=f"commerce-production/checkout-backend-{n}") for n in range(1, 255)
    )
    web = Visited(
        tmp_path,
        {AddressMap: lambda _: AddressMapPage(runs=runs), AddressList: lambda _: AddressPage(addresses=rows)},
    )
    async with web.browser() as client:
        answer = await client.get("/networks/prod/map")
    assert len(re.findall(r"<td ", answer.text)) == 256
    assert len(answer.content) < 60_000


async def test_pages_of_the_map_are_put_together(tmp_path: Path):
    def runs(asked: AddressMap) -> AddressMapPage:
        if asked.after is None:
            return AddressMapPage(runs=(run("10.1.0.1", "10.1.0.99", "free"),), next="100")
        return AddressMapPage(runs=(run("10.1.0.100", "10.1.0.254", "free"),))

    web = Visited(tmp_path, {AddressMap: runs, AddressList: lambda _: AddressPage(addresses=())})
    async with web.browser() as client:
        answer = await client.get("/networks/prod/map")
    assert answer.text.count('class="s-free') == 254


async def test_a_tenant_is_told_no_name_of_others_by_the_map(tmp_path: Path):
    runs = (run("10.1.0.7", "10.1.0.7", "attached", "vault"), run("10.1.0.8", "10.1.0.8", "waiting", "web"))
    rows = (address("10.1.0.7", owner="bank/teller-0", pool="vault"), address("10.1.0.8"))
    web = Visited(
        tmp_path,
        {AddressMap: lambda _: AddressMapPage(runs=runs), AddressList: lambda _: AddressPage(addresses=rows)},
    )
    async with web.browser("tenant", "shop") as client:
        answer = await client.get("/networks/prod")
    assert "shop/web-0" in answer.text
    assert "bank" not in answer.text
    assert "vault" not in answer.text


async def test_a_map_that_cannot_be_read_now_is_no_page_to_be_put_in_its_place(tmp_path: Path):
    web = Visited(tmp_path, {AddressMap: lambda _: ServiceError(Code.UNAVAILABLE, "away")})
    async with web.browser() as client:
        answer = await client.get("/networks/prod/map")
    assert answer.status_code == 503  # htmx puts in place what succeeded, and nothing else


async def test_where_an_app_is_placed_the_ways_into_the_map_keep_the_network(tmp_path: Path):
    web = Visited(tmp_path, WIDE_NET)
    async with web.browser() as client:
        answer = await client.get("/apps/new?network=prod")
        deeper = await client.get("/apps/new?network=prod&within=10.1.0.0/16")
    assert 'href="/apps/new?network=prod&amp;within=10.1.0.0/16"' in answer.text
    assert 'href="/apps/new?network=prod&amp;within=10.1.1.0/24"' in deeper.text
