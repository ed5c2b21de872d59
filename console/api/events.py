"""/api/v1/events: what happens, as server-sent events, for as long as the token is good."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from console.access import permits
from console.access.identity import Identity
from console.api.happenings import Missed, row_id
from console.api.problems import responses
from console.api.site import IdentityOf, Site, SiteOf
from schemas.errors import ServiceError
from schemas.fields import SYSTEM_NETWORK, HistoryName
from schemas.network import NetworkShow, NetworkView

router = APIRouter(tags=["events"])

_CHECK_S = 3.0
_CHECKS_A_HEARTBEAT = 5
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, one for each row of history.", "content": {"text/event-stream": {}}}
}


class _EventStream(StreamingResponse):
    media_type = "text/event-stream"


@router.get("/events", response_class=_EventStream, responses=responses(HTTPStatus.NOT_FOUND) | _EVENTS)
async def stream_events(
    request: Request,
    site: SiteOf,
    identity: IdentityOf,
    network: Annotated[HistoryName | None, Query(description="only of this network; all without it")] = None,
    last: Annotated[
        str | None,
        Header(alias="Last-Event-ID", max_length=255, description="go on after the event with this id"),
    ] = None,
) -> Response:
    """Rows of history as they are written: `id`, the row's `event`, and the row as `data`.

    `event: missed` says that rows are missing: read the history for them. A comment comes every 15 s. The
    stream ends when the token does; a tenant is told of its owners alone.
    """
    if network == SYSTEM_NETWORK:
        permits.check_sees_all(identity, "the history of nodes")
    elif network is not None:
        await site.desk.ask(identity, NetworkShow(network=network, with_nodes=False), NetworkView)
    token = request.headers.get("Authorization", "").partition(" ")[2].strip()
    told = _told(site, identity, token, network, last)
    first = await anext(told)
    return _EventStream(_all(first, told), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _all(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for each in rest:
        yield each


async def _told(
    site: Site, identity: Identity, token: str, network: str | None, last: str | None
) -> AsyncIterator[str]:
    """The stream; its first part is there as soon as somebody listens."""
    with site.happenings.listening(last, of=identity.name) as listener:
        yield ": here you are\n\n"
        quiet = 0
        while _is_good(site, identity, token):
            found = await listener.next(_CHECK_S)
            if found is None:
                quiet += 1
                if quiet % _CHECKS_A_HEARTBEAT == 0:
                    yield ": quiet\n\n"
            elif isinstance(found, Missed):
                yield "event: missed\ndata: {}\n\n"
            elif network in (None, found.network):
                hidden = identity.confined and found.network == SYSTEM_NETWORK
                row = None if hidden else permits.seen_row(identity, found, frozenset())
                if row is not None:
                    data = row.model_dump_json(exclude_none=True)
                    yield f"id: {row_id(row)}\nevent: {row.event}\ndata: {data}\n\n"


def _is_good(site: Site, identity: Identity, token: str) -> bool:
    try:
        return site.tokens.identify(token) == identity
    except ServiceError:
        return False
