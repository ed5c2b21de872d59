"""The stream that pages listen to."""

import asyncio
import json
from pathlib import Path

import pytest

from console.page.browser import COOKIE
from tests.unit.test_api_events import LIMIT_S, Stream, happened
from tests.unit.test_api_routes import row
from tests.visitors import Visited


def signed_in(web: Visited, role: str = "operator", *namespaces: str) -> str:
    cookie = web.site.sign_ins.by_token(web.token("ann", role, *namespaces))  # type: ignore[arg-type]
    assert cookie is not None
    return f"{COOKIE}={cookie}"


async def listening(web: Visited, cookie: str, query: str = "", last: str | None = None) -> Stream:
    stream = Stream(web, "", query, last, cookie=cookie)
    assert await stream.next() == ": here you are\n\n"
    return stream


async def test_rows_come_as_they_happen_and_only_of_the_network_that_was_chosen(tmp_path: Path):
    web = Visited(tmp_path)
    stream = await listening(web, signed_in(web), "network=prod")
    web.site.happenings.tell(happened(1, network="dev"))
    web.site.happenings.tell(happened(2))
    first, kind, data = (await stream.next()).splitlines()[:3]
    await stream.end()
    assert (first, kind) == ("id: prod:2", "event: row")
    assert json.loads(data.removeprefix("data: "))["owner"] == "shop/web-0"


async def test_a_tenants_page_is_told_of_its_owners_alone(tmp_path: Path):
    web = Visited(tmp_path)
    stream = await listening(web, signed_in(web, "tenant", "shop"))
    web.site.happenings.tell(happened(1, "bank/teller-0"))
    web.site.happenings.tell(row(2, None, "web", details={"was": "bank/*"}))
    web.site.happenings.tell(row(3, "shop/web-0", None, network="_system"))
    web.site.happenings.tell(happened(4))
    assert (await stream.next()).startswith("id: prod:4\n")
    await stream.end()


async def test_a_page_that_was_cut_off_goes_on_where_it_was(tmp_path: Path):
    web = Visited(tmp_path)
    for seq in (1, 2, 3):
        web.site.happenings.tell(happened(seq))
    stream = await listening(web, signed_in(web), last="prod:2")
    assert (await stream.next()).startswith("id: prod:3\n")
    await stream.end()


async def test_what_happens_while_a_page_is_made_is_not_missed(tmp_path: Path):
    web = Visited(tmp_path)
    cookie = signed_in(web)
    before = web.site.happenings.latest
    web.site.happenings.tell(happened(1))
    between = web.site.happenings.latest
    web.site.happenings.tell(happened(2))
    for after, first in ((before, "prod:1"), (between, "prod:2")):
        stream = await listening(web, cookie, f"after={after}")
        assert (await stream.next()).startswith(f"id: {first}\n")
        await stream.end()


@pytest.mark.parametrize("after", ["nothing", "00000000-1", "{run}-7", "{run}--1", "{run}-x", "prod:9"])
async def test_a_page_of_another_time_is_told_to_look_for_itself(tmp_path: Path, after: str):
    web = Visited(tmp_path)
    run = web.site.happenings.latest.partition("-")[0]
    web.site.happenings.tell(happened(1))
    stream = await listening(web, signed_in(web), f"after={after.format(run=run)}")
    assert (await stream.next()).startswith("event: missed\n")
    await stream.end()


async def test_the_stream_ends_with_the_session_and_tells_nothing_more(tmp_path: Path):
    web = Visited(tmp_path)
    stream = await listening(web, signed_in(web))
    web.tokens.revoke("ann")
    web.site.happenings.tell(happened(1))
    async with asyncio.timeout(LIMIT_S):
        await stream.task
    assert stream.parts.empty()


async def test_a_quiet_stream_says_that_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("console.page.events._QUIET_S", 0.01)
    web = Visited(tmp_path)
    stream = await listening(web, signed_in(web))
    assert await stream.next() == ": quiet\n\n"
    await stream.end()
