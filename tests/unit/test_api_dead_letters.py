"""Dead letters over HTTP: looked at, tried, replayed and discarded; what takes long tells how far it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.dead import ReplayPreview, ReplayPreviewed
from tests import letters
from tests.letters import letter
from tests.web import Web

PLACE = "/api/v1/dead-letters"


def web_with(folder: Path, *dead: Any) -> tuple[Web, letters.Letters]:
    """A console where these letters lie."""
    lying = letters.Letters(list(dead))
    web = Web(folder, {ReplayPreview: lambda _: ReplayPreviewed(prospect="apply")})
    web.site.letters._open_box = lying.letter_box  # type: ignore[assignment]
    web.site.letters._open_post = lying.post  # type: ignore[assignment]
    return web, lying


async def test_a_viewer_reads_them(tmp_path: Path):
    web, _ = web_with(tmp_path, letter(1), letter(2, code="exhausted"), letter(3))
    async with web.program(web.token("v", "viewer")) as client:
        found = (await client.get(PLACE, params={"code": "pool_unknown", "limit": 1})).json()
        one = await client.get(f"{PLACE}/000002")
        none = await client.get(f"{PLACE}/nothing")
    assert (found["count"], found["looked"], found["matching"]) == (3, 3, 2)
    assert [each["id"] for each in found["letters"]] == ["000001-letter"]
    assert found["kinds"] == [{"request": "address.release", "code": "pool_unknown", "letters": 2}]
    assert (one.json()["code"], one.json()["node"]) == ("exhausted", "node-1")
    assert (none.status_code, none.json()["code"]) == (404, "letter_unknown")


async def test_a_try_changes_nothing(tmp_path: Path):
    web, lying = web_with(tmp_path, letter(1), letter(2))
    async with web.program() as client:
        found = (await client.post(f"{PLACE}/preview", json={"ids": ["000002"]})).json()
    assert [(each["id"], each["prospect"]) for each in found["letters"]] == [("000002-letter", "apply")]
    assert (len(lying.letters), lying.out.sent) == (2, [])


@pytest.mark.parametrize(
    ("meant", "left"), [({"ids": ["000001"]}, 2), ({"code": "exhausted"}, 2), ({"all": True}, 0)]
)
async def test_those_that_are_meant_are_replayed(tmp_path: Path, meant: dict[str, Any], left: int):
    web, lying = web_with(tmp_path, letter(1), letter(2, code="exhausted"), letter(3))
    async with web.program() as client:
        answer = await client.post(f"{PLACE}/replay", json={**meant, "reason": "mended"})
    assert (answer.status_code, answer.json()["done"], answer.json()["left"]) == (200, 3 - left, 0)
    assert (len(lying.letters), len(lying.out.replayed)) == (left, 3 - left)
    (record,) = lying.out.audited
    assert (record.actor, record.details["reason"]) == ("ops", "mended")


async def test_what_is_left_is_told_with_the_reason(tmp_path: Path):
    web, lying = web_with(tmp_path, letter(1, deaths=9))
    async with web.program() as client:
        kept = (await client.post(f"{PLACE}/replay", json={"all": True})).json()
        forced = (await client.post(f"{PLACE}/replay", json={"all": True, "force": True})).json()
    assert (kept["left"], kept["first_left"][0]["id"]) == (1, "000001-letter")
    assert "it died 9 times" in kept["first_left"][0]["why"]
    assert (forced["done"], lying.letters) == (1, [])


async def test_a_discard_sends_nothing_but_what_history_keeps(tmp_path: Path):
    web, lying = web_with(tmp_path, letter(1), letter(2))
    async with web.program() as client:
        answer = await client.post(f"{PLACE}/discard", json={"ids": ["000001-letter"]})
    assert answer.json()["done"] == 1
    assert ([each.id for each in lying.letters], lying.out.replayed) == (["000002-letter"], [])
    assert [record.event for record in lying.out.audited] == ["dead.discarded"]


async def test_a_long_replay_is_a_job_that_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("console.api.jobs.WAIT_S", 0.05)
    dead = [replace(letter(1), id=f"{number:06d}-letter") for number in range(60)]
    web, lying = web_with(tmp_path, *dead)
    go = asyncio.Event()

    class SlowBox(letters.FakeBox):
        async def take(self, limit: int) -> list[Any]:
            if self.seen:
                await go.wait()
            return await super().take(limit)

    @asynccontextmanager
    async def slow(url: str, *, timeout_s: float) -> AsyncIterator[SlowBox]:
        yield SlowBox(list(lying.letters))

    web.site.letters._open_box = slow  # type: ignore[assignment]
    key = {"Idempotency-Key": "r-1"}
    async with web.program() as client:
        answer = await client.post(f"{PLACE}/replay", json={"all": True}, headers=key)
        assert answer.status_code == 202
        job = (await client.get(answer.headers["Location"])).json()
        assert (job["state"], job["progress"]["done"]) == ("running", 50)
        go.set()
        again = await client.post(f"{PLACE}/replay", json={"all": True}, headers=key)
        assert (again.status_code, again.json()["done"]) == (200, 60)
        assert (await client.get(answer.headers["Location"])).json()["result"] == again.json()
    assert len(lying.out.replayed) == 60, "each was sent once"
