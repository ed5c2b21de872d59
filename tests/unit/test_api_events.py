"""Server-sent events: who is told what, how a reader goes on, and when a stream ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from console.api.happenings import _MOST_OF_ONE
from console.api.happenings import _REMEMBERED as REMEMBERED
from schemas.errors import Code, ServiceError
from schemas.history import HistoryRow
from schemas.network import NetworkShow
from tests.unit.test_api_routes import row
from tests.web import Web

LIMIT_S = 20.0


class Stream:
    """One request for events, by ASGI: the client of the tests waits for the end of an answer."""

    def __init__(
        self, web: Web, token: str, query: str = "", last: str | None = None, *, cookie: str | None = None
    ) -> None:
        """With a `cookie` it is a browser that asks the page."""
        path = "/api/v1/events" if cookie is None else "/events/stream"
        self.parts: asyncio.Queue[str] = asyncio.Queue()
        self.status = 0
        self.gone = asyncio.Event()
        headers = [(b"authorization", f"Bearer {token}".encode())]
        headers += [(b"last-event-id", last.encode())] if last else []
        headers = headers if cookie is None else [(b"cookie", cookie.encode()), *headers[1:]]
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": headers,
            "client": ("192.0.2.9", 4711),
            "server": ("console.test", 80),
        }
        self._asked = False
        self.task = asyncio.create_task(web.app(self._scope, self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("body"):
            self.parts.put_nowait(message["body"].decode())

    async def next(self) -> str:
        async with asyncio.timeout(LIMIT_S):
            return await self.parts.get()

    async def end(self) -> None:
        self.gone.set()
        async with asyncio.timeout(LIMIT_S):
            await self.task


@contextlib.asynccontextmanager
async def streaming(web: Web, token: str, query: str = "", last: str | None = None) -> AsyncIterator[Stream]:
    stream = Stream(web, token, query, last)
    assert await stream.next() == ": here you are\n\n"
    try:
        yield stream
    finally:
        await stream.end()


def happened(seq: int, owner: str = "shop/web-0", network: str = "prod") -> HistoryRow:
    return row(seq, owner, "web", network=network, event="address.attached")


async def test_rows_come_with_their_id_and_event(tmp_path: Path):
    web = Web(tmp_path)
    async with streaming(web, web.token()) as stream:
        web.site.happenings.tell(happened(7))
        lines = (await stream.next()).splitlines()
    assert lines[:2] == ["id: prod:7", "event: address.attached"]
    assert HistoryRow.model_validate_json(lines[2].removeprefix("data: ")) == happened(7)


async def test_a_tenant_is_told_of_its_owners_alone(tmp_path: Path):
    web = Web(tmp_path)
    async with streaming(web, web.token("t", "tenant", "shop")) as stream:
        web.site.happenings.tell(happened(7, "bank/teller-0"))
        web.site.happenings.tell(row(8, None, "web", details={"was": "bank/*"}))
        web.site.happenings.tell(row(9, "shop/web-0", None, network="_system"))
        web.site.happenings.tell(happened(10))
        assert (await stream.next()).startswith("id: prod:10\n")


async def test_a_reader_goes_on_where_it_was(tmp_path: Path):
    web = Web(tmp_path)
    for seq in (1, 2, 3):
        web.site.happenings.tell(happened(seq))
    async with streaming(web, web.token(), last="prod:2") as stream:
        assert (await stream.next()).startswith("id: prod:3\n")


async def test_a_reader_that_was_away_too_long_is_told_so(tmp_path: Path):
    web = Web(tmp_path)
    for seq in range(REMEMBERED + 2):
        web.site.happenings.tell(happened(seq))
    async with streaming(web, web.token(), last="prod:0") as stream:
        assert await stream.next() == "event: missed\ndata: {}\n\n"


async def test_one_network_alone(tmp_path: Path):
    error = ServiceError(Code.NETWORK_UNKNOWN, "no")
    web = Web(tmp_path, {NetworkShow: lambda _: error})
    token = web.token()
    async with web.program(token) as client:
        assert (await client.get("/api/v1/events?network=nowhere")).status_code == 404
    async with streaming(web, token, "network=_system") as stream:
        web.site.happenings.tell(happened(1))
        web.site.happenings.tell(row(2, None, None, network="_system", event="node.lost"))
        assert (await stream.next()).startswith("id: _system:2\nevent: node.lost\n")


async def test_a_tenant_does_not_hear_of_nodes(tmp_path: Path):
    web = Web(tmp_path)
    async with web.program(web.token("t", "tenant", "shop")) as client:
        assert (await client.get("/api/v1/events?network=_system")).status_code == 403


async def test_a_stream_ends_with_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("console.api.events._CHECK_S", 0.02)
    web = Web(tmp_path)
    stream = Stream(web, web.token())
    await stream.next()
    web.tokens.revoke("ops")
    web.token()  # of the same name: it is another one
    async with asyncio.timeout(LIMIT_S):
        await stream.task


async def test_a_quiet_stream_has_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("console.api.events._CHECK_S", 0.01)
    web = Web(tmp_path)
    async with streaming(web, web.token()) as stream:
        assert await stream.next() == ": quiet\n\n"


async def test_one_token_has_so_many_streams_and_no_more(tmp_path: Path):
    web = Web(tmp_path)
    token = web.token()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(_MOST_OF_ONE):
            await stack.enter_async_context(streaming(web, token))
        async with web.program(token) as client:
            refused = await client.get("/api/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        async with streaming(web, web.token("other")):
            pass
    async with streaming(web, token):
        pass
