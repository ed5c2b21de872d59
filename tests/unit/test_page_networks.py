"""Networks on the page: made, watched, taken away, by those who may."""

import asyncio
from pathlib import Path

import pytest

from schemas.address import AddressReleaseByOperator, AddressShow
from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkDelete, NetworkList, NetworkPage, NetworkShow
from tests.visitors import Visited, address, network, sent

NEW = {"network": "dev", "driver": "bridge", "cidr": "10.2.0.0/24"}


async def test_an_operator_creates_a_network_and_is_shown_it(tmp_path: Path):
    web = Visited(tmp_path, {NetworkCreate: lambda asked: network(asked.network)})
    more = {"gateway": "10.2.0.1", "cidr6": "fd00:2::/64", "owners": "shop/*, bank/*", "keep_going": "yes"}
    async with web.browser() as client:
        answer = await sent(client, "/networks", "/networks", **NEW, **more, request_id="r-1")
        shown = await client.get(answer.headers["Location"])
    assert answer.headers["Location"] == "/networks/dev?job=r-1"
    assert shown.status_code == 200
    (asked,) = web.asked_of(NetworkCreate)
    assert (asked.actor, asked.request_id, asked.keep_going) == ("a-operator", "r-1", True)
    assert [str(subnet.cidr) for subnet in asked.subnets] == ["10.2.0.0/24", "fd00:2::/64"]
    assert str(asked.subnets[0].gateway) == "10.2.0.1"
    assert asked.owners == ("shop/*", "bank/*")


@pytest.mark.parametrize(
    ("driver", "given", "made"),
    [
        ("bridge", {"uplink": "eth1", "vlan": "7"}, {"uplink": "eth1", "vlan": 7}),
        ("vxlan", {"vni": "42"}, {"vni": 42}),
        ("macvlan", {"parent": "eth1"}, {"parent": "eth1"}),
        ("ipam", {}, {}),
    ],
)
async def test_each_driver_has_its_own_fields(
    tmp_path: Path, driver: str, given: dict[str, str], made: dict[str, object]
):
    web = Visited(tmp_path, {NetworkCreate: lambda asked: network(asked.network)})
    async with web.browser() as client:
        await sent(client, "/networks", "/networks", **{**NEW, "driver": driver, **given})
    (asked,) = web.asked_of(NetworkCreate)
    assert made.items() <= asked.driver.model_dump().items()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cidr": "10.2.0.1/24"}, "10.2.0.0/24"),
        ({"cidr": ""}, "cidr"),
        ({"network": "DEV"}, "lower-case"),
        ({"driver": "vxlan"}, "vni"),
        ({"vlan": "many", "uplink": "eth1"}, "vlan"),
        ({"owners": "nobody"}, "owners"),
    ],
)
async def test_what_was_mistyped_is_said_and_shown_again(tmp_path: Path, wrong: dict[str, str], said: str):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await sent(client, "/networks", "/networks", **{**NEW, **wrong})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert said in answer.text
    assert '<details id="create" open>' in answer.text
    for value in {**NEW, **wrong}.values():
        assert value in answer.text
    assert web.asked_of(NetworkCreate) == []


@pytest.mark.parametrize("role", ["viewer", "tenant"])
async def test_others_are_offered_nothing_and_refused_all_the_same(tmp_path: Path, role: str):
    web = Visited(tmp_path)
    async with web.browser(role, *(["shop"] if role == "tenant" else [])) as client:  # type: ignore[arg-type]
        page = await client.get("/networks")
        one = await client.get("/networks/prod")
        made = await sent(client, "/networks", "/networks", **NEW)
        gone = await sent(client, "/networks", "/networks/prod/delete", confirm="prod")
    assert 'action="/networks"' not in page.text
    assert "/delete" not in one.text
    assert (made.status_code, gone.status_code) == (403, 403)
    assert "ask an operator" in made.text
    assert web.asked_of(NetworkCreate) == web.asked_of(NetworkDelete) == []


async def test_a_network_that_is_being_made_is_looked_at_each_second_until_it_is_there(tmp_path: Path):
    made = asyncio.Event()
    state = {"now": "creating"}
    nodes = [{"node": "node-1", "state": "ready"}, {"node": "node-2", "state": "pending"}]
    half = {"nodes": nodes, "node_counts": {"ready": 1, "pending": 1}}
    web = Visited(tmp_path, {NetworkShow: lambda asked: network(asked.network, state=state["now"], **half)})

    class Slow:
        async def ask(self, request, *, timeout_s=10.0):  # type: ignore[no-untyped-def]
            if isinstance(request, NetworkCreate):
                await made.wait()
                return network("dev")
            return await web.allocator.ask(request, timeout_s=timeout_s)

    web.site.desk._asker = Slow()
    async with web.browser() as client:
        answer = await sent(client, "/networks", "/networks", **NEW)
        where = answer.headers["Location"]
        meanwhile = await client.get(where)
        state["now"] = "active"
        made.set()
        await web.site.jobs.run(  # joins the one that is on its way
            web.site.tokens.current("a-operator"),  # type: ignore[arg-type]
            next(iter(web.site.jobs._jobs.values())).request,
            lambda: asyncio.sleep(0, network("dev")),
        )
        after = await client.get(where)
    assert 'hx-trigger="every 1s"' in meanwhile.text
    assert "1 ready, 1 pending" in meanwhile.text
    assert "every 1s" not in after.text


FAILED = ServiceError(
    Code.ROLLOUT_FAILED,
    "1 of 2 nodes could not make it",
    nodes=[{"node": "node-2", "state": "error", "error": {"code": "uplink_missing", "message": "no eth1"}}],
)


async def test_a_network_that_could_not_be_made_is_told_with_what_each_node_said(tmp_path: Path):
    web = Visited(tmp_path, {NetworkCreate: lambda _: FAILED})
    async with web.browser() as client:
        answer = await sent(client, "/networks", "/networks", **NEW)
    assert answer.status_code == 409
    assert "1 of 2 nodes could not make it" in answer.text
    assert "no eth1 (uplink_missing)" in answer.text


async def test_a_network_in_use_is_not_deleted_and_its_holders_are_named(tmp_path: Path):
    held = [{"address": "10.1.0.7", "owner": "shop/web-0", "state": "attached", "node": "node-1"}]
    refusal = ServiceError(Code.NETWORK_IN_USE, "addresses are held", holders=held)
    web = Visited(tmp_path, {NetworkDelete: lambda _: refusal})
    async with web.browser() as client:
        answer = await sent(client, "/networks/prod", "/networks/prod/delete", confirm="prod")
    assert answer.status_code == 409
    assert "10.1.0.7" in answer.text
    assert "shop/web-0" in answer.text
    assert "hx-get" not in answer.text  # it is not asked for again by itself


@pytest.mark.parametrize(
    "form", [{"confirm": "", "reason": "r"}, {"confirm": "dev"}, {"confirm": "prod", "force": "1"}]
)
async def test_a_network_is_deleted_by_its_name_and_forced_with_a_reason_alone(
    tmp_path: Path, form: dict[str, str]
):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await sent(client, "/networks/prod", "/networks/prod/delete", **form)
    assert answer.status_code == 422
    assert web.asked_of(NetworkDelete) == []


async def test_a_network_that_was_deleted_is_told_to_be_gone(tmp_path: Path):
    web = Visited(tmp_path, {NetworkDelete: lambda _: network(state="deleted")})
    async with web.browser() as client:
        answer = await sent(client, "/networks/prod", "/networks/prod/delete", confirm="prod")
        gone = ServiceError(Code.NETWORK_UNKNOWN, "there is no network prod")
        web.allocator.answers = {**web.allocator.answers, NetworkShow: lambda _: gone}
        shown = await client.get(answer.headers["Location"])
        without = await client.get("/networks/prod")
    assert (shown.status_code, without.status_code) == (200, 404)
    assert "the network is gone" in shown.text


async def test_the_job_of_somebody_else_is_not_shown(tmp_path: Path):
    web = Visited(tmp_path, {NetworkCreate: lambda _: FAILED})
    async with web.browser() as client:
        await sent(client, "/networks", "/networks", **NEW, request_id="r-1")
    async with web.browser("viewer") as client:
        answer = await client.get("/networks/prod?job=r-1")
    assert answer.status_code == 200
    assert "could not make it" not in answer.text


async def test_more_networks_than_a_page_holds_are_a_link_away(tmp_path: Path):
    web = Visited(tmp_path, {NetworkList: lambda _: NetworkPage(networks=(network(),), next="a b&c")})
    async with web.browser() as client:
        answer = await client.get("/networks")
        await client.get("/networks?after=a%20b%26c")
    assert 'href="/networks?after=a%20b%26c"' in answer.text
    assert web.asked_of(NetworkList)[-1].after == "a b&c"


async def test_an_address_is_released_from_the_owner_that_the_page_showed(tmp_path: Path):
    where = "/networks/prod/addresses/10.1.0.8"
    waiting = address("10.1.0.8", state="waiting", owner="shop/web-1")
    web = Visited(tmp_path, {AddressShow: lambda _: waiting, AddressReleaseByOperator: lambda _: waiting})
    async with web.browser("tenant", "shop") as client:
        page = await client.get(where)
        answer = await sent(
            client, where, f"{where}/release", reason="it moved", expected_owner="shop/web-1", force=""
        )
    assert 'name="expected_owner" value="shop/web-1"' in page.text
    assert 'name="force"' not in page.text
    assert answer.headers["Location"] == where
    (asked,) = web.asked_of(AddressReleaseByOperator)
    assert (asked.expected_owner, asked.reason, asked.actor) == ("shop/web-1", "it moved", "a-tenant")
