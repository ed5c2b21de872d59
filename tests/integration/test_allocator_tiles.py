"""Tiles on the real database: what the map says, summed; and maps and lists of a part of a network."""

from collections import Counter
from ipaddress import ip_network
from typing import Any

import pytest
from sqlalchemy import Engine

from schemas.address import AddressList, AddressMap, AddressQuarantine, AddressReserve, AddressRun
from schemas.fields import IPNetwork
from schemas.tiles import AddressTiles, TilesView
from tests.integration.allocating import Asked

pytestmark = pytest.mark.services


def asked_of(engine: Engine, *cidrs: str) -> Asked:
    """Network prod with an address in each state in the middle and at the end of each subnet."""
    made = Asked(engine)
    made.network("prod", *cidrs)
    made.pool("web", *(piece(cidr, 2) for cidr in cidrs), owners=["shop/web-*"])
    made.pool("lab", *(piece(cidr, 4) for cidr in cidrs), policy="reserved")
    made.pool("quick", *(piece(cidr, 5) for cidr in cidrs), policy="shared", cooldown_s=5)
    fill(made, cidrs)
    return made


def piece(cidr: str, eighth: int) -> str:
    """An eighth of a subnet."""
    net = ip_network(cidr)
    size = net.num_addresses // 8
    first = net.network_address + eighth * size
    return f"{first}-{first + (size - 1)}"


def fill(asked: Asked, cidrs: tuple[str, ...]) -> None:
    """An address in each state, some at both ends of what can be handed out."""
    nets = [ip_network(cidr) for cidr in cidrs]
    for place in (1, nets[0].num_addresses - 2):
        addresses = [str(net.network_address + min(place, net.num_addresses - 2)) for net in nets]
        asked.attach(f"bank/api-{place}", addresses=addresses)
    asked.reply(asked.make(AddressReserve, owner="shop/web-0"))
    for pool in ("default", "quick"):
        old = asked.attach(f"bank/{pool}-old", pool=pool)
        asked.release(old.attachment_id)
    asked.pass_time(60)
    if ip_network(cidrs[0]).num_addresses == 8:
        return
    new = asked.attach("bank/quick-new", pool="quick")
    asked.release(new.attachment_id)
    bad = asked.attach("bank/bad", pool="default")
    body = {"attachment_id": bad.attachment_id, "node": "n1", "reason": "heard"}
    asked.reply(asked.make(AddressQuarantine, **body, address=bad.addresses[0].address))


def runs(asked: Asked, limit: int = 500, **fields: Any) -> list[AddressRun]:
    """The map, all its pages."""
    found: list[AddressRun] = []
    after: str | None = None
    while True:
        answer = asked.reply(asked.make(AddressMap, limit=limit, after=after, **fields))
        found += answer.runs
        after = answer.next
        if after is None:
            return found


def tiles(asked: Asked, within: str) -> TilesView:
    answer = asked.reply(asked.make(AddressTiles, within=within))
    assert isinstance(answer, TilesView)
    return answer


def check_agreement(asked: Asked, within: str) -> TilesView:
    """Assert that the tiles are the runs of the map, cut and summed."""
    view = tiles(asked, within)
    states: Counter[tuple[str, str]] = Counter()
    pools: Counter[tuple[str, str]] = Counter()
    told: list[IPNetwork] = [ip_network((tile.first, view.tile_prefix)) for tile in view.tiles]
    for net in told:
        for run in runs(asked, within=str(net)):
            assert run.first in net
            assert run.last in net
            states[str(net.network_address), run.state] += int(run.count)
            pools[str(net.network_address), run.pool] += int(run.count)
    assert states == {(str(t.first), state): int(n) for t in view.tiles for state, n in t.states.items()}
    assert pools == {(str(t.first), pool): int(n) for t in view.tiles for pool, n in t.pools.items()}
    whole = sum(int(run.count) for run in runs(asked, within=within))
    assert whole == sum(int(tile.total) for tile in view.tiles)
    return view


@pytest.mark.parametrize(
    ("cidr", "parts"),
    [
        ("10.1.0.0/16", ["10.1.64.0/18", "10.1.0.0/24", "10.1.255.192/26", "10.1.160.0/32"]),
        ("10.1.16.0/20", ["10.1.16.0/21", "10.1.26.0/23"]),
        ("10.1.0.40/29", ["10.1.0.44/30"]),
        ("fd00:1::/64", ["fd00:1:0:0:a000::/67", "fd00:1::/121", "fd00:1:0:0:ffff:ffff:ffff:ff00/120"]),
        ("fd00:1::/51", ["fd00:1::/59", "fd00:1::/116"]),
    ],
)
def test_tiles_are_the_runs_of_the_map_summed(engine: Engine, cidr: str, parts: list[str]):
    asked = asked_of(engine, cidr)
    for within in [cidr, *parts]:
        check_agreement(asked, within)


def test_each_state_is_counted_where_it_is(engine: Engine):
    view = check_agreement(asked_of(engine, "10.1.0.0/20"), "10.1.0.0/20")
    assert (view.tile_prefix, len(view.tiles)) == (28, 256)
    assert view.tiles[0].total == "15"
    assert view.tiles[0].states == {"attached": "1", "quarantined": "1", "cooling": "1", "free": "12"}
    assert view.tiles[64].states == {"waiting": "1", "free": "15"}
    assert view.tiles[128].states == {"reserved": "16"}
    assert view.tiles[160].states == {"cooling": "1", "free": "15"}
    assert view.tiles[255].states == {"attached": "1", "free": "14"}
    assert [dict(view.tiles[n].pools) for n in (64, 128, 160)] == [
        {"web": "16"},
        {"lab": "16"},
        {"quick": "16"},
    ]


def test_each_family_of_a_network_has_tiles_of_its_own(engine: Engine):
    asked = asked_of(engine, "10.1.0.0/24", "fd00:1::/64")
    four, six = check_agreement(asked, "10.1.0.0/24"), check_agreement(asked, "fd00:1::/64")
    assert (four.tile_prefix, six.tile_prefix) == (32, 72)
    assert {tile.first.version for tile in six.tiles} == {6}
    assert sum(int(tile.total) for tile in six.tiles) == (1 << 64) - 1
    attached = [sum(int(t.states.get("attached", 0)) for t in view.tiles) for view in (four, six)]
    assert attached == [2, 2]


def test_other_networks_are_not_counted(engine: Engine):
    asked = asked_of(engine, "10.1.0.0/24")
    asked.network("other", "10.1.0.0/24")
    view = asked.reply(AddressTiles.model_validate({"network": "other", "within": "10.1.0.0/24"}))
    assert {state for tile in view.tiles for state in tile.states} == {"free"}


def test_tiles_of_what_is_not_inside_one_subnet_are_refused(engine: Engine):
    asked = Asked(engine, nodes=[])
    asked.network("prod", "10.1.0.0/24", "fd00:1::/64")
    for within in ("10.1.0.0/23", "10.2.0.0/24", "fd00::/16", "::/0", "::ffff:10.1.0.0/120"):
        error = asked.refusal(asked.make(AddressTiles, within=within))
        assert error.code == "range_invalid"
        assert "10.1.0.0/24, fd00:1::/64" in error.message
    nowhere = asked.refusal(asked.make(AddressTiles, network="nowhere", within="10.1.0.0/24"))
    assert nowhere.code == "network_unknown"


# Maps and lists of a part.


def test_a_map_of_a_part_is_that_part_of_the_map(engine: Engine):
    asked = asked_of(engine, "10.1.0.0/24")
    told = [f"{run.first}-{run.last} {run.pool} {run.state}" for run in runs(asked, within="10.1.0.96/27")]
    assert told == ["10.1.0.96-10.1.0.127 default free"]
    told = [f"{run.first}-{run.last} {run.pool} {run.state}" for run in runs(asked, within="10.1.0.64/26")]
    assert told == [
        "10.1.0.64-10.1.0.64 web waiting",
        "10.1.0.65-10.1.0.95 web free",
        "10.1.0.96-10.1.0.127 default free",
    ]
    for limit in (1, 2):
        assert runs(asked, limit, within="10.1.0.64/26") == runs(asked, within="10.1.0.64/26")
    assert [run.pool for run in runs(asked, within="10.1.0.64/26", pool="web")] == ["web", "web"]
    assert runs(asked, within="10.1.0.64/26", pool="lab") == []


@pytest.mark.parametrize(
    ("within", "families"),
    [("10.0.0.0/8", {4}), ("::/0", {6}), ("::ffff:0:0/96", set()), ("10.9.0.0/24", set())],
)
def test_a_part_may_be_more_than_the_network_and_has_one_family(
    engine: Engine, within: str, families: set[int]
):
    asked = asked_of(engine, "10.1.0.0/24", "fd00:1::/64")
    assert {run.first.version for run in runs(asked, within=within)} == families
    assert {row.address.version for row in asked.addresses(within=within)} == families
    assert runs(asked, within=within) == [run for run in runs(asked) if run.first.version in families]


def test_a_list_of_a_part_has_the_addresses_inside_it_alone(engine: Engine):
    asked = asked_of(engine, "10.1.0.0/24")
    everything = asked.addresses()
    for within, count in (("10.1.0.0/24", len(everything)), ("10.1.0.64/27", 1), ("10.1.0.96/27", 0)):
        inside = [row for row in everything if row.address in ip_network(within)]
        assert asked.addresses(within=within) == inside
        assert len(inside) == count
    assert asked.addresses(within="10.1.0.0/25", pool="web") == asked.addresses(pool="web")
    assert asked.addresses(within="10.1.0.128/25", pool="web") == []
    assert asked.addresses(within="10.1.0.0/24", state="waiting") == asked.addresses(state="waiting")


def test_pages_of_a_part_join_up(engine: Engine):
    asked = asked_of(engine, "10.1.0.0/24")
    for pool in (None, "default"):
        found: list[Any] = []
        after: str | None = None
        while True:
            query = asked.make(AddressList, within="10.1.0.0/25", pool=pool, limit=1, after=after)
            answer = asked.reply(query)
            found += answer.addresses
            after = answer.next
            if after is None:
                break
        assert found == asked.addresses(within="10.1.0.0/25", pool=pool)
        assert len(found) > 1
