"""Who gets in to the page, and that nobody else's page can send its forms."""

from pathlib import Path

import httpx
import pytest

from console.api.guards import RateLimit
from console.page.browser import COOKIE
from schemas.network import NetworkCreate, NetworkDelete
from schemas.node import NodeFence
from tests.visitors import Visited, csrf_of
from tests.web import ONE_TIME, ORIGIN

PAGES = [
    "/networks",
    "/networks/prod",
    "/networks/prod/map",
    "/networks/prod/addresses/10.1.0.7",
    "/apps/new",
    "/apps/placed",
    "/history",
    "/nodes",
    "/nodes/node-1",
    "/dead",
    "/dead/1",
    "/events",
    "/events/stream",
]
FORMS = [
    "/networks",
    "/networks/prod/delete",
    "/networks/prod/addresses/10.1.0.7/release",
    "/apps",
    "/apps/apply",
    "/apps/delete",
    "/nodes/node-1/fence",
    "/nodes/node-1/remove",
    "/dead",
    "/dead/1/try",
    "/sign-out",
]


@pytest.mark.parametrize("path", PAGES)
async def test_whoever_is_not_signed_in_is_sent_to_sign_in(tmp_path: Path, path: str):
    web = Visited(tmp_path)
    async with web.client() as client:
        answer = await client.get(path)
        part = await client.get(path, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
    assert part.headers["HX-Redirect"] == "/sign-in"
    assert web.allocator.asked == []


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_of_nobody_does_nothing(tmp_path: Path, path: str):
    web = Visited(tmp_path)
    async with web.client() as client:
        answer = await client.post(path, data={"csrf": "x"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
    assert web.allocator.asked == []


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("given", [{}, {"csrf": ""}, {"csrf": "wrong"}])
async def test_a_form_without_what_the_page_gave_along_is_refused(
    tmp_path: Path, path: str, given: dict[str, str]
):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await client.post(path, data=given)
        still = await client.get("/networks")
    assert answer.status_code == 403
    assert "nothing was done" in answer.text
    assert still.status_code == 200  # also not signed out
    assert [asked.NAME for asked in web.allocator.asked] == ["network.list"]


FENCE = {"confirm": "node-1", "session": "5d2f4a60-0000-4000-8000-000000000001", "reason": "it is off"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": f"{ORIGIN}:8080"},
        {"Origin": f"{ORIGIN}.evil.test"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_form_from_elsewhere_is_refused_whatever_it_knows(tmp_path: Path, headers: dict[str, str]):
    web = Visited(tmp_path)
    async with web.browser() as client:
        csrf = csrf_of(await client.get("/nodes/node-1"))
        answer = await client.post("/nodes/node-1/fence", data={"csrf": csrf, **FENCE}, headers=headers)
    assert answer.status_code == 403
    assert web.asked_of(NodeFence) == []


async def test_the_form_of_another_session_is_refused(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser() as one, web.browser("viewer") as other:
        csrf = csrf_of(await other.get("/networks"))
        answer = await one.post("/networks/prod/delete", data={"csrf": csrf, "confirm": "prod"})
    assert answer.status_code == 403
    assert web.asked_of(NetworkDelete) == []


async def test_a_token_signs_in_with_a_cookie_that_scripts_and_other_sites_do_not_get(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.client() as client:
        answer = await client.post("/sign-in", data={"token": f" {web.token()} "})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/networks")
        cookie = answer.headers["Set-Cookie"]
        page = await client.get("/networks")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie  # over http a browser would drop it
    assert "ops" in page.text


async def test_over_https_the_cookie_is_secure(tmp_path: Path):
    web = Visited(tmp_path)
    transport = httpx.ASGITransport(web.app, client=("192.0.2.9", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="https://console.test") as client:
        answer = await client.post("/sign-in", data={"token": web.token()})
    assert "Secure" in answer.headers["Set-Cookie"].split("; ")


@pytest.mark.parametrize("token", ["", "nonsense", "é" * 40])
async def test_a_token_that_opens_nothing_says_so_and_sets_nothing(tmp_path: Path, token: str):
    web = Visited(tmp_path)
    async with web.client() as client:
        answer = await client.post("/sign-in", data={"token": token})
    assert answer.status_code == 403
    assert 'role="alert"' in answer.text
    assert "Set-Cookie" not in answer.headers


async def test_looking_at_the_one_time_link_does_not_use_it_up(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.client() as client:
        for _ in range(2):
            page = await client.get(f"/sign-in/{ONE_TIME}")
            assert page.status_code == 200
            assert f'action="/sign-in/{ONE_TIME}"' in page.text
            assert "Set-Cookie" not in page.headers
        answer = await client.post(f"/sign-in/{ONE_TIME}")
    assert answer.status_code == 303
    assert COOKIE in answer.headers["Set-Cookie"]


async def test_the_one_time_link_signs_in_once(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.client() as client, web.client() as other:
        await client.post(f"/sign-in/{ONE_TIME}")
        assert (await client.get("/nodes")).status_code == 200
        again = await other.post(f"/sign-in/{ONE_TIME}")
    assert again.status_code == 403
    assert "used already" in again.text


async def test_after_too_many_tries_even_a_right_token_has_to_wait(tmp_path: Path):
    web = Visited(tmp_path, failures=RateLimit(0.001, 2))
    async with web.client() as client:
        for _ in range(2):
            assert (await client.post("/sign-in", data={"token": "wrong"})).status_code == 403
        answer = await client.post("/sign-in", data={"token": web.token()})
        link = await client.post(f"/sign-in/{ONE_TIME}")
    assert (answer.status_code, link.status_code) == (429, 429)
    assert "Set-Cookie" not in answer.headers


async def test_right_tokens_are_no_tries(tmp_path: Path):
    web = Visited(tmp_path, failures=RateLimit(0.001, 2))
    token = web.token()
    async with web.client() as client:
        answers = [await client.post("/sign-in", data={"token": token}) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {303}


async def test_signing_out_ends_the_session_for_whoever_has_the_cookie(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser() as client:
        csrf = csrf_of(await client.get("/networks"))
        cookie = client.cookies[COOKIE]
        answer = await client.post("/sign-out", data={"csrf": csrf})
    assert answer.headers["Location"] == "/sign-in"
    async with web.client(cookies={COOKIE: cookie}) as client:
        assert (await client.get("/networks")).status_code == 303


async def test_a_token_that_is_revoked_signs_its_browser_out(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser() as client:
        assert (await client.get("/networks")).status_code == 200
        web.tokens.revoke("a-operator")
        assert (await client.get("/networks")).status_code == 303


async def test_a_cookie_opens_nothing_of_the_api(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await client.post(
            "/api/v1/networks", json={"network": "x", "subnets": [{"cidr": "10.9.0.0/24"}]}
        )
    assert answer.status_code == 401
    assert web.asked_of(NetworkCreate) == []
