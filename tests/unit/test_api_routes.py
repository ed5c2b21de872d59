"""Every route of the API, with every kind of token: who is let in, and that nothing of others is told."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas.address import (
    AddressList,
    AddressMap,
    AddressMapPage,
    AddressPage,
    AddressReleaseByOperator,
    AddressReserve,
    AddressRun,
    AddressShow,
    AddressView,
)
from schemas.errors import Code, ServiceError
from schemas.history import HistoryList, HistoryPage, HistoryRow
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView
from schemas.pool import PoolCreate, PoolList, PoolPage, PoolView
from schemas.tiles import AddressTiles, TilesView
from tests.web import Web

AT = datetime(2026, 3, 1, 14, 5, tzinfo=UTC)
SESSION = str(UUID(int=7))
OTHERS = ("bank", "vault", "hidden-net", "node-of-bank", "teller", "0a:58:0a:01:00:2a")
"""What belongs to others, and what a tenant of `shop` must find nowhere."""

NET: Mapping[str, Any] = {"network": "new", "subnets": [{"cidr": "10.1.0.0/24"}]}
POOL: Mapping[str, Any] = {"pool": "vault", "policy": "pinned", "size": 2, "owners": ["bank/*"]}
HELD = "/api/v1/networks/prod/addresses"
MEANT: Mapping[str, Any] = {"all": True}

# Method and route: what is called, with which body, and what a tenant of others gets.
ROUTES: Mapping[tuple[str, str], tuple[str, Mapping[str, Any] | None, int]] = {
    ("GET", "/networks"): ("/networks", None, 200),
    ("POST", "/networks"): ("/networks", NET, 403),
    ("GET", "/networks/{network}"): ("/networks/hidden-net", None, 404),
    ("PATCH", "/networks/{network}"): ("/networks/prod", {"mtu": 1400}, 403),
    ("DELETE", "/networks/{network}"): ("/networks/prod", None, 403),
    ("GET", "/jobs/{request_id}"): ("/jobs/k-1", None, 404),
    ("GET", "/networks/{network}/pools"): ("/networks/prod/pools?limit=1", None, 200),
    ("POST", "/networks/{network}/pools"): ("/networks/prod/pools", POOL, 403),
    ("GET", "/networks/{network}/pools/{pool}"): ("/networks/prod/pools/vault", None, 404),
    ("PATCH", "/networks/{network}/pools/{pool}"): ("/networks/prod/pools/vault", {"cooldown_s": 1}, 404),
    ("DELETE", "/networks/{network}/pools/{pool}"): ("/networks/prod/pools/vault", None, 404),
    ("POST", "/networks/{network}/pools/{pool}/resize"): (
        "/networks/prod/pools/vault/resize",
        {"size": 9},
        404,
    ),
    ("GET", "/networks/{network}/addresses"): ("/networks/prod/addresses", None, 200),
    ("GET", "/networks/{network}/addresses/{address}"): ("/networks/prod/addresses/10.1.0.42", None, 404),
    ("GET", "/networks/{network}/map"): ("/networks/prod/map", None, 200),
    ("GET", "/networks/{network}/tiles"): ("/networks/prod/tiles?within=10.1.0.0/24", None, 200),
    ("POST", "/networks/{network}/addresses/reserve"): (
        "/networks/prod/addresses/reserve",
        {"owner": "bank/teller-0"},
        403,
    ),
    ("POST", "/networks/{network}/addresses/rebind"): (
        "/networks/prod/addresses/rebind",
        {"owner": "bank/teller-0", "addresses": ["10.1.0.43"]},
        403,
    ),
    ("POST", "/networks/{network}/addresses/{address}/release"): (
        "/networks/prod/addresses/10.1.0.42/release",
        {"reason": "mine now"},
        404,
    ),
    ("GET", "/networks/{network}/history"): ("/networks/prod/history", None, 200),
    ("GET", "/nodes"): ("/nodes", None, 403),
    ("POST", "/nodes/{node}/fence"): ("/nodes/n1/fence", {"session": SESSION, "reason": "off"}, 403),
    ("DELETE", "/nodes/{node}"): ("/nodes/n1", None, 403),
    ("GET", "/dead-letters"): ("/dead-letters", None, 403),
    ("GET", "/dead-letters/{letter_id}"): ("/dead-letters/abcdefgh", None, 403),
    ("POST", "/dead-letters/preview"): ("/dead-letters/preview", MEANT, 403),
    ("POST", "/dead-letters/replay"): ("/dead-letters/replay", MEANT, 403),
    ("POST", "/dead-letters/discard"): ("/dead-letters/discard", MEANT, 403),
    ("GET", "/events"): ("/events?network=hidden-net", None, 404),
    ("GET", "/whoami"): ("/whoami", None, 200),
}
CALLS = pytest.mark.parametrize("route", list(ROUTES), ids=" ".join)
WRITES = [route for route in ROUTES if route[0] != "GET"]


def network(name: str, *owners: str) -> NetworkView:
    definition = {"subnets": [{"cidr": "10.1.0.0/24"}], "owners": owners}
    return NetworkView.model_validate(
        {"network": name, "definition": definition, "state": "active", "version": 1}
    )


NETWORKS = {"hidden-net": network("hidden-net", "bank/*"), "prod": network("prod", "shop/*", "bank/*")}


def pool(name: str, *owners: str) -> PoolView:
    return PoolView(
        network="prod", pool=name, policy="pinned", owners=owners, range_count=1, total=9, used=1, version=3
    )


POOLS = (pool("default"), pool("mixed", "shop/*", "bank/*"), pool("vault", "bank/*"), pool("web", "shop/*"))


def address(number: int, owner: str | None, in_pool: str, state: str = "waiting") -> AddressView:
    mac = f"0a:58:0a:01:00:{number:02x}" if owner else None
    body = {"owner": owner, "mac": mac, "pool": in_pool, "state": state, "policy": "pinned", "since": AT}
    return AddressView.model_validate({"network": "prod", "address": f"10.1.0.{number}", **body})


ADDRESSES = (
    address(5, "shop/web-0", "web"),
    address(6, None, "web", "free"),
    address(7, "shop/cart-0", "mixed"),
    address(8, None, "mixed", "free"),
    address(42, "bank/teller-0", "vault"),
    address(42, "bank/teller-1", "mixed", "quarantined"),
    address(42, "bank/teller-2", "web", "free"),
    address(42, "container:teller", "default", "attached"),
)


def row(seq: int, owner: str | None, in_pool: str | None, **parts: Any) -> HistoryRow:
    body = {"network": "prod", "seq": seq, "at": AT, "event": "pool.updated", "owner": owner, "pool": in_pool}
    return HistoryRow.model_validate(body | parts)


ROWS = (
    row(1, "shop/web-0", "web"),
    row(2, "bank/teller-0", "vault", node="node-of-bank", actor="teller"),
    row(3, None, "vault", actor="teller"),
    row(4, None, "mixed", details={"settings": {"owners": ["bank/*"]}}),
    row(5, None, "web", details={"was": "bank/*"}, actor="teller", node="node-of-bank", mac=OTHERS[-1]),
    row(6, None, None, details={"owners": ["bank/*"]}),
)


def shown(query: NetworkShow) -> NetworkView | ServiceError:
    found = NETWORKS.get(query.network)
    return found or ServiceError(Code.NETWORK_UNKNOWN, f"no {query.network}")


def tiles(query: AddressTiles) -> TilesView:
    assert query.pools is not None
    assert "vault" not in query.pools, "it is told of no pool of others"
    return TilesView(network="prod", within=query.within, tile_prefix=32, tiles=())


RUN = {"first": "10.1.0.1", "last": "10.1.0.9", "state": "attached", "count": "9"}
ANSWERS: Mapping[Any, Any] = {
    NetworkShow: shown,
    NetworkList: lambda _: NetworkPage(networks=tuple(NETWORKS.values())),
    PoolList: lambda _: PoolPage(pools=POOLS),
    AddressList: lambda _: AddressPage(addresses=ADDRESSES),
    AddressShow: lambda _: ADDRESSES[4],
    AddressMap: lambda _: AddressMapPage(
        runs=tuple(AddressRun.model_validate(RUN | {"pool": each.pool}) for each in POOLS)
    ),
    AddressTiles: tiles,
    HistoryList: lambda _: HistoryPage(rows=ROWS),
}


async def call(web: Web, token: str, route: tuple[str, str]) -> Any:
    path, body, _ = ROUTES[route]
    async with web.program(token) as client:
        return await client.request(route[0], f"/api/v1{path}", json=body)


async def test_every_route_is_in_the_table(tmp_path: Path):
    async with Web(tmp_path).program() as client:
        paths = (await client.get("/api/v1/openapi.json")).json()["paths"]
    documented = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in paths.items()
        if path.startswith("/api/v1/")
        for method in methods
    }
    assert documented == set(ROUTES)


@CALLS
async def test_nobody_comes_in_without_a_token(tmp_path: Path, route: tuple[str, str]):
    web = Web(tmp_path, ANSWERS)
    assert (await call(web, "", route)).status_code == 401
    assert web.allocator.asked == []


@pytest.mark.parametrize("route", WRITES, ids=" ".join)
async def test_a_viewer_changes_nothing_anywhere(tmp_path: Path, route: tuple[str, str]):
    web = Web(tmp_path, ANSWERS)
    answer = await call(web, web.token("v", "viewer"), route)
    assert (answer.status_code, answer.json()["code"]) == (403, Code.SENDER_FORBIDDEN)
    assert web.allocator.asked == []


@CALLS
async def test_a_tenant_meets_nothing_of_others(tmp_path: Path, route: tuple[str, str]):
    web = Web(tmp_path, ANSWERS)
    answer = await call(web, web.token("t", "tenant", "shop"), route)
    assert answer.status_code == ROUTES[route][2]
    asked_for = json.dumps(ROUTES[route][:2])
    assert [name for name in OTHERS if name in answer.text and name not in asked_for] == []
    changes = [each for each in web.allocator.asked if hasattr(each, "request_id")]
    assert changes == [], "nothing was asked that changes anything"


IN_A_NETWORK = [route for route in ROUTES if "{network}" in route[1]]


@pytest.mark.parametrize("route", IN_A_NETWORK, ids=" ".join)
async def test_within_a_network_of_others_a_tenant_asks_for_nothing(tmp_path: Path, route: tuple[str, str]):
    web = Web(tmp_path, ANSWERS)
    path, body, _ = ROUTES[route]
    place = re.sub("^/networks/[^/?]+", "/networks/hidden-net", path)
    async with web.program(web.token("t", "tenant", "shop")) as client:
        answer = await client.request(route[0], f"/api/v1{place}", json=body)
    changes_it = route[1] == "/networks/{network}" and route[0] != "GET"
    assert answer.status_code == (403 if changes_it else 404)
    assert {type(asked) for asked in web.allocator.asked} <= {NetworkShow}
    assert "bank" not in answer.text


async def test_a_tenant_does_see_what_is_its_own(tmp_path: Path):
    web = Web(tmp_path, ANSWERS)
    token = web.token("t", "tenant", "shop")
    async with web.program(token) as client:
        pools = (await client.get("/api/v1/networks/prod/pools")).json()["pools"]
        addresses = (await client.get(HELD)).json()["addresses"]
        rows = (await client.get("/api/v1/networks/prod/history")).json()["rows"]
        runs = (await client.get("/api/v1/networks/prod/map")).json()["runs"]
        me = (await client.get("/api/v1/whoami")).json()
    assert [each["pool"] for each in pools] == ["default", "mixed", "web"]
    assert [each["address"][-1] for each in addresses] == ["5", "6", "7"]
    assert [each["seq"] for each in rows] == [1, 5]
    assert [each["pool"] for each in runs] == ["default", "mixed", "others", "web"]
    assert me == {"name": "t", "role": "tenant", "namespaces": ["shop"]}


async def test_pages_of_a_tenant_name_no_pool_of_others_to_go_on_after(tmp_path: Path):
    web = Web(tmp_path, ANSWERS)
    seen, after = [], ""
    async with web.program(web.token("t", "tenant", "shop")) as client:
        for _ in range(3):
            place = f"/api/v1/networks/prod/pools?limit=1{after}"
            page = (await client.get(place)).json()
            seen += [each["pool"] for each in page["pools"]]
            after = f"&after={page['next']}"
    assert (seen, page["next"]) == (["default", "mixed", "web"], None)


@pytest.mark.parametrize("pattern", ["bank/*", "*/*", "sh*/*", "container:*", "shopper/*"])
async def test_a_tenant_makes_pools_for_its_own_owners_alone(tmp_path: Path, pattern: str):
    web = Web(tmp_path, ANSWERS)
    async with web.program(web.token("t", "tenant", "shop")) as client:
        body = {"pool": "mine", "policy": "pinned", "size": 1, "owners": ["shop/*", pattern]}
        answer = await client.post("/api/v1/networks/prod/pools", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, Code.OWNER_FORBIDDEN)


@pytest.mark.parametrize("code", [*sorted(set(Code) - {Code.INVALID_REQUEST}), "from_a_newer_allocator"])
async def test_a_refusal_names_a_tenant_nobody_else(tmp_path: Path, code: str):
    held = [{"address": "10.1.0.42", "owner": "bank/teller-0"}, {"address": "10.1.0.5", "owner": "shop/a"}]
    plain = code in {
        Code.NETWORK_UNKNOWN,
        Code.NETWORK_NOT_READY,
        Code.ADDRESS_UNKNOWN,
        Code.VERSION_CONFLICT,
    }
    plain = plain or code in {Code.TOO_LARGE, Code.PAUSED, Code.UNAVAILABLE, Code.TIMEOUT}
    words = "no" if plain or code in {Code.NOT_PROVISIONED, Code.DEADLINE_PASSED} else "bank/teller-0 has it"
    error = ServiceError(code, words, holders=held, pool="vault", owner="bank/teller-0")
    web = Web(tmp_path, {**ANSWERS, AddressReserve: lambda _: error})
    async with web.program(web.token("t", "tenant", "shop")) as client:
        answer = await client.post(f"{HELD}/reserve", json={"owner": "shop/web-0"})
    assert answer.status_code >= 400
    assert [name for name in OTHERS if name in answer.text] == []
    assert answer.json()["holders"] == held[1:]


async def test_a_pool_of_others_is_as_unknown_as_one_that_is_not_there(tmp_path: Path):
    web = Web(tmp_path, ANSWERS)
    async with web.program(web.token("t", "tenant", "shop")) as client:
        for name in ("vault", "nowhere"):
            body = {"owner": "shop/web-0", "pool": name}
            answers = [
                await client.post(f"{HELD}/reserve", json=body),
                await client.get(f"{HELD}?pool={name}"),
                await client.get(f"/api/v1/networks/prod/map?pool={name}"),
                await client.delete(f"/api/v1/networks/prod/pools/{name}"),
            ]
            assert [answer.json()["code"] for answer in answers] == [Code.POOL_UNKNOWN] * 4
            texts = {answer.json()["detail"].replace(name, "NAME") for answer in answers}
    assert len(texts) == 1


async def test_a_release_by_a_tenant_holds_only_against_the_owner_it_saw(tmp_path: Path):
    given = {**ANSWERS, AddressShow: lambda _: ADDRESSES[0], AddressReleaseByOperator: lambda _: ADDRESSES[0]}
    web = Web(tmp_path, given)
    async with web.program(web.token("t", "tenant", "shop")) as client:
        answer = await client.post(f"{HELD}/10.1.0.5/release", json={"reason": "over"})
        forced = await client.post(f"{HELD}/10.1.0.5/release", json={"reason": "over", "force": True})
    assert (answer.status_code, forced.status_code) == (200, 403)
    (asked,) = [each for each in web.allocator.asked if isinstance(each, AddressReleaseByOperator)]
    assert (asked.expected_owner, asked.actor) == ("shop/web-0", "t")


async def test_a_key_gives_a_change_its_answer_again_and_no_other_token(tmp_path: Path):
    web = Web(tmp_path, {**ANSWERS, PoolCreate: lambda _: POOLS[3]})
    body = {"pool": "web", "policy": "pinned", "size": 2, "owners": ["shop/*"]}
    key = {"Idempotency-Key": "k-1"}
    place = "/api/v1/networks/prod/pools"
    async with web.program(web.token("t", "tenant", "shop")) as client:
        first, again = [await client.post(place, json=body, headers=key) for _ in range(2)]
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == "k-1"
    assert len([each for each in web.allocator.asked if isinstance(each, PoolCreate)]) == 1
    web.tokens.revoke("t")
    async with web.program(web.token("t", "tenant", "bank")) as client:
        other = await client.post(place, json=body, headers=key)
    assert (other.status_code, other.json()["code"]) == (403, Code.OWNER_FORBIDDEN)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/networks/prod/pools", {"pool": "a", "policy": "shared", "size": 1, "cooldwn_s": 1}),
        ("/networks/prod/addresses/rebind", {"owner": "a/b", "addresses": ["10.1.0.5"], "actor": "x"}),
        ("/networks", {"network": "a", "subnets": [{"cidr": "10.1.0.0/24", "gatway": "10.1.0.1"}]}),
        ("/dead-letters/discard", {"codes": "pool_unknown", "all": True}),
        ("/dead-letters/discard", {}),
        ("/dead-letters/discard", {"all": True, "code": "pool_unknown"}),
        ("/networks/prod/pools", {"pool": "a", "policy": "shared"}),
    ],
)
async def test_a_mistyped_field_is_refused_at_any_depth(tmp_path: Path, route: str, body: dict[str, Any]):
    web = Web(tmp_path)
    async with web.program() as client:
        answer = await client.post(f"/api/v1{route}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, Code.INVALID_REQUEST)
    assert web.allocator.asked == []


@pytest.mark.parametrize(
    "query", ["ownr=shop/web-0", "limit=501", "limit=0", "state=gone", "within=10.1.0.1/24"]
)
async def test_a_parameter_that_is_unknown_or_wrong_is_refused(tmp_path: Path, query: str):
    web = Web(tmp_path)
    async with web.program() as client:
        answer = await client.get(f"{HELD}?{query}")
    assert answer.status_code == 422
    assert web.allocator.asked == []


async def test_what_is_not_there_and_what_cannot_be_done_are_problems_too(tmp_path: Path):
    async with Web(tmp_path).program() as client:
        nowhere, wrong = await client.get("/api/v1/nowhere"), await client.put("/api/v1/networks")
    assert (nowhere.status_code, wrong.status_code) == (404, 405)
    assert wrong.headers["Allow"] == "GET, POST"
    assert {answer.headers["Content-Type"] for answer in (nowhere, wrong)} == {"application/problem+json"}
