"""Nodes and their history on the page."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.address import AddressShow
from schemas.errors import Code, ServiceError
from schemas.history import HistoryList, HistoryPage
from schemas.node import NodeFence, NodeFenced, NodeList, NodePage, NodeRemove
from tests.visitors import AT, SESSION, Visited, history_row, sent

FENCE = {"confirm": "node-2", "session": str(SESSION), "reason": "its power is cut"}


def fenced(asked: NodeFence) -> NodeFenced:
    return NodeFenced(node=asked.node, session=asked.session, fenced=True, released=3)


async def test_an_operator_fences_the_life_of_a_node_that_the_page_showed(tmp_path: Path):
    web = Visited(tmp_path, {NodeFence: fenced})
    async with web.browser() as client:
        page = await client.get("/nodes/node-2")
        answer = await sent(client, "/nodes/node-2", "/nodes/node-2/fence", **FENCE)
        told = await client.get(answer.headers["Location"])
    assert "Nothing checks that it is off" in page.text
    assert f'name="session" value="{SESSION}"' in page.text
    (asked,) = web.asked_of(NodeFence)
    assert (asked.node, asked.session, asked.reason) == ("node-2", SESSION, "its power is cut")
    assert asked.actor == "a-operator"
    assert "Node node-2 is fenced" in told.text


async def test_a_node_that_is_ready_is_said_not_to_be_off(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser() as client:
        ready, lost = await client.get("/nodes/node-1"), await client.get("/nodes/node-2")
    assert "so it is not off" in ready.text
    assert "so it is not off" not in lost.text


@pytest.mark.parametrize("change", [{"confirm": "node-1"}, {"confirm": ""}, {"reason": ""}, {"session": "x"}])
async def test_nothing_is_fenced_by_mistake(tmp_path: Path, change: dict[str, str]):
    web = Visited(tmp_path, {NodeFence: fenced})
    async with web.browser() as client:
        answer = await sent(client, "/nodes/node-2", "/nodes/node-2/fence", **{**FENCE, **change})
    assert answer.status_code == 422
    assert web.asked_of(NodeFence) == []


async def test_a_node_that_came_back_meanwhile_is_left_alone(tmp_path: Path):
    web = Visited(tmp_path, {NodeFence: lambda asked: fenced(asked).model_copy(update={"fenced": False})})
    async with web.browser() as client:
        answer = await sent(client, "/nodes/node-2", "/nodes/node-2/fence", **FENCE)
    assert answer.status_code == 409
    assert "came back" in answer.text


async def test_a_viewer_sees_nodes_and_fences_none(tmp_path: Path):
    web = Visited(tmp_path, {NodeFence: fenced})
    async with web.browser("viewer") as client:
        pages = [await client.get("/nodes"), await client.get("/nodes/node-2")]
        answer = await sent(client, "/nodes", "/nodes/node-2/fence", **FENCE)
        removed = await sent(client, "/nodes", "/nodes/node-2/remove", confirm="node-2")
    assert all("/fence" not in page.text and "/remove" not in page.text for page in pages)
    assert "node-2" in pages[0].text
    assert (answer.status_code, removed.status_code) == (403, 403)
    assert web.asked_of(NodeFence) == web.asked_of(NodeRemove) == []


async def test_a_tenant_is_told_of_no_node(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser("tenant", "shop") as client:
        pages = [await client.get(path) for path in ("/nodes", "/nodes/node-1", "/dead")]
        front = await client.get("/networks")
    assert {page.status_code for page in pages} == {403}
    assert web.asked_of(NodeList) == []
    assert 'href="/nodes"' not in front.text
    assert 'href="/dead"' not in front.text
    assert "node-1" not in front.text


async def test_a_node_is_found_on_whatever_page_of_the_list_it_is(tmp_path: Path):
    def page(asked: NodeList) -> NodePage:
        name = "node-1" if asked.after is None else "node-999"
        node = {"node": name, "state": "lost", "session": str(SESSION), "last_seen": AT}
        return NodePage.model_validate({"nodes": [node], "next": None if asked.after else "node-1"})

    web = Visited(tmp_path, {NodeList: page})
    async with web.browser() as client:
        found, unknown = await client.get("/nodes/node-999"), await client.get("/nodes/node-5")
    assert (found.status_code, unknown.status_code) == (200, 404)


async def test_history_tells_who_held_an_address_at_a_time(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await client.get("/history?network=prod&address=10.1.0.7&at=2026-03-01T14:05")
    asked = web.asked_of(AddressShow)[0]
    assert (str(asked.address), asked.at) == ("10.1.0.7", datetime(2026, 3, 1, 14, 5, tzinfo=UTC))
    assert web.asked_of(HistoryList)[0].until == asked.at
    assert "<strong>shop/web-0</strong> on node <strong>node-1</strong>" in answer.text


async def test_history_says_where_nobody_held_it(tmp_path: Path):
    web = Visited(tmp_path, {AddressShow: lambda _: ServiceError(Code.ADDRESS_UNKNOWN, "never used")})
    async with web.browser() as client:
        answer = await client.get("/history?network=prod&address=10.1.0.7&at=2026-03-01T14:05")
    assert answer.status_code == 200
    assert "Nobody held it" in answer.text


async def test_history_is_narrowed_and_older_rows_keep_what_was_chosen(tmp_path: Path):
    def page(asked: HistoryList) -> HistoryPage:
        return HistoryPage.model_validate(
            {"rows": [history_row()], "next": "older&more" if not asked.after else None}
        )

    web = Visited(tmp_path, {HistoryList: page})
    query = "network=prod&owner=shop/web-0&node=node-1&since=2026-03-01T00:00&until=2026-03-02T00:00"
    async with web.browser() as client:
        answer = await client.get(f"/history?{query}")
        older = answer.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        await client.get(older)
    first, second = web.asked_of(HistoryList)
    assert first.newest_first
    assert second == first.model_copy(update={"after": "older&more"})
    assert (first.owner, first.node, first.since) == (
        "shop/web-0",
        "node-1",
        datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    "wrong", ["address=10.1.0", "owner=nobody", "since=yesterday", "at=x&address=10.1.0.7"]
)
async def test_history_says_what_was_mistyped(tmp_path: Path, wrong: str):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await client.get(f"/history?network=prod&{wrong}")
    assert 'role="alert"' in answer.text
    assert web.asked_of(HistoryList) == []
