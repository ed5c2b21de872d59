"""What stands before every route: who is let in, how much, how often; and how refusals look."""

import asyncio
from pathlib import Path

import pytest
import structlog

from console.api.guards import MOST_BYTES, RateLimit
from console.api.jobs import WAIT_S
from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkList, NetworkPage, NetworkShow, NetworkView
from tests.web import Web

NET = {"network": "prod", "subnets": [{"cidr": "10.1.0.0/24"}]}


def view(name: str = "prod") -> NetworkView:
    definition = {"subnets": [{"cidr": "10.1.0.0/24"}]}
    return NetworkView.model_validate(
        {"network": name, "definition": definition, "state": "active", "version": 1}
    )


def page(*names: str) -> NetworkPage:
    return NetworkPage(networks=tuple(view(name) for name in names))


async def test_without_a_token_everything_is_401(tmp_path: Path):
    async with Web(tmp_path).program("") as client:
        answer = await client.get("/api/v1/networks")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "moorage token create" in answer.json()["detail"]


async def test_nothing_of_a_request_is_read_before_its_token(tmp_path: Path):
    async with Web(tmp_path).program("") as client:
        for path in ("networks", "nothing", "networks/prod/pools"):
            answer = await client.post(f"/api/v1/{path}", content=b"{")
            assert answer.status_code == 401
        answer = await client.get("/api/v1/networks", headers={"Authorization": "Basic b3BzOm9wcw=="})
        assert answer.status_code == 401


async def test_tokens_that_cannot_be_read_are_503_and_let_nobody_in(tmp_path: Path):
    web = Web(tmp_path)
    async with web.program() as client:
        web.tokens.path.write_text("{")
        answer = await client.get("/api/v1/networks")
    assert answer.status_code == 503
    assert "MOORAGE_TOKENS_FILE" in answer.json()["detail"]


async def test_a_token_lets_in_and_answers_have_headers_that_browsers_obey(tmp_path: Path):
    web = Web(tmp_path, {NetworkList: lambda _: page("prod")})
    async with web.program() as client:
        answer = await client.get("/api/v1/networks")
    assert answer.status_code == 200
    assert [each["network"] for each in answer.json()["networks"]] == ["prod"]
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_viewer_changes_nothing(tmp_path: Path):
    web = Web(tmp_path)
    async with web.program(web.token("v", "viewer")) as client:
        answer = await client.post("/api/v1/networks", json=NET)
    assert answer.status_code == 403
    assert answer.json()["code"] == Code.SENDER_FORBIDDEN
    assert web.allocator.asked == []


async def test_a_change_names_who_asked_and_its_key(tmp_path: Path):
    web = Web(tmp_path, {NetworkCreate: lambda _: view()})
    async with web.program() as client:
        answer = await client.post("/api/v1/networks", json=NET, headers={"Idempotency-Key": "k-1"})
    assert answer.status_code == 201
    (asked,) = web.allocator.asked
    assert (asked.actor, asked.request_id) == ("ops", "k-1")
    assert answer.headers["Idempotency-Key"] == "k-1"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServiceError(Code.NETWORK_EXISTS, "it is there"), 409),
        (ServiceError(Code.INVALID_REQUEST, "no"), 422),
        (ServiceError(Code.UNAVAILABLE, "away"), 503),
        (ServiceError(Code.PAUSED, "paused"), 503),
        (ServiceError(Code.SENDER_FORBIDDEN, "no"), 403),
        (ServiceError("from_a_newer_allocator", "no"), 409),
    ],
)
async def test_refusals_are_problems_with_the_status_they_deserve(
    tmp_path: Path, error: ServiceError, status: int
):
    web = Web(tmp_path, {NetworkCreate: lambda _: error})
    async with web.program() as client:
        answer = await client.post("/api/v1/networks", json=NET)
    assert answer.status_code == status
    body = answer.json()
    assert (body["code"], body["status"], body["detail"]) == (error.code, status, error.message)
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_holders_in_the_way_are_named(tmp_path: Path):
    held = [{"address": "10.1.0.5", "owner": "shop/web-0", "state": "attached"}]
    refusal = ServiceError(Code.NETWORK_IN_USE, "in use", holders=held)
    web = Web(tmp_path, {NetworkCreate: lambda _: refusal})
    async with web.program() as client:
        answer = await client.post("/api/v1/networks", json=NET)
    assert answer.json()["holders"] == held


@pytest.mark.parametrize(
    "body", [{}, {"network": "PROD"}, {**NET, "subnets": [{"cidr": "10.1.0.1/24"}]}, [], "x"]
)
async def test_what_cannot_be_a_network_is_422_and_asks_nobody(tmp_path: Path, body: object):
    web = Web(tmp_path)
    async with web.program() as client:
        answer = await client.post("/api/v1/networks", json=body)
    assert answer.status_code == 422
    assert answer.json()["code"] == Code.INVALID_REQUEST
    assert web.allocator.asked == []


async def test_a_body_that_is_too_large_is_413(tmp_path: Path):
    async def chunks():
        for _ in range(MOST_BYTES // 1000 + 2):
            yield b"x" * 1000

    async with Web(tmp_path).program() as client:
        told = await client.post("/api/v1/networks", content=b"x" * (MOST_BYTES + 1))
        untold = await client.post("/api/v1/networks", content=chunks())
    assert (told.status_code, untold.status_code) == (413, 413)


async def test_an_address_that_asks_too_often_is_429_for_a_while(tmp_path: Path):
    now = [0.0]
    web = Web(tmp_path, {NetworkList: lambda _: page()}, RateLimit(1, 2, now=lambda: now[0]))
    async with web.program() as client:
        found = [(await client.get("/api/v1/networks")).status_code for _ in range(3)]
        assert found == [200, 200, 429]
        assert (await client.get("/api/v1/networks")).headers["Retry-After"] == "1"
        now[0] = 1.0
        assert (await client.get("/api/v1/networks")).status_code == 200


async def test_a_bug_is_500_without_its_story(tmp_path: Path):
    def broken(_: object) -> NetworkPage:
        raise RuntimeError("secret")

    async with Web(tmp_path, {NetworkList: broken}).program() as client:
        answer = await client.get("/api/v1/networks")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["Content-Security-Policy"]


class Slow:
    """An allocator that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0

    async def ask(self, request: object, *, timeout_s: float = 10.0) -> NetworkView:
        self.asked += 1
        await self.go.wait()
        return view()


async def test_what_takes_long_is_202_with_a_place_to_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert WAIT_S <= 2
    monkeypatch.setattr("console.api.jobs.WAIT_S", 0.05)
    web, slow = Web(tmp_path), Slow()
    monkeypatch.setattr(web.site.desk, "_asker", slow)
    async with web.program() as client:
        key = {"Idempotency-Key": "k-1"}
        answer = await client.post("/api/v1/networks", json=NET, headers=key)
        assert answer.status_code == 202
        place = answer.headers["Location"]
        assert (await client.get(place)).json()["state"] == "running"
        assert (await client.post("/api/v1/networks", json=NET, headers=key)).status_code == 202
        assert slow.asked == 1, "it joined the first"
        slow.go.set()
        assert (await client.post("/api/v1/networks", json=NET, headers=key)).status_code == 201
        job = (await client.get(place)).json()
        assert job["result"]["network"] == "prod"
        other = web.client(headers={"Authorization": f"Bearer {web.token('v', 'viewer')}"})
        assert (await other.get(place)).status_code == 404, "it is not theirs"
        await other.aclose()


async def test_a_tenant_sees_no_network_of_others(tmp_path: Path):
    others = view().model_copy(
        update={"definition": view().definition.model_copy(update={"owners": ("o/*",)})}
    )
    web = Web(
        tmp_path, {NetworkShow: lambda _: others, NetworkList: lambda _: NetworkPage(networks=(others,))}
    )
    async with web.program(web.token("t", "tenant", "shop")) as client:
        assert (await client.get("/api/v1/networks/prod")).status_code == 404
        assert (await client.get("/api/v1/networks")).json()["networks"] == []


async def test_the_log_says_who_changed_what_and_no_secret(tmp_path: Path):
    web = Web(tmp_path, {NetworkCreate: lambda _: view(), NetworkList: lambda _: page()})
    with structlog.testing.capture_logs() as lines:
        async with web.program() as client:
            await client.get("/api/v1/networks")
            await client.post("/api/v1/networks", json=NET)
            await client.post("/sign-in/" + "s" * 43)
    told = [(line["log_level"], line["method"], line["path"], line["status"], line["who"]) for line in lines]
    assert told == [
        ("debug", "GET", "/api/v1/networks", 200, "ops"),
        ("info", "POST", "/api/v1/networks", 201, "ops"),
        ("info", "POST", "/sign-in/***", 403, None),
    ]
