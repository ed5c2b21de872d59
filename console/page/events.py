"""What happens, as it happens: a page that lists it, and the stream that pages listen to."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from console.access import permits
from console.api.happenings import Missed, row_id
from console.page.browser import COOKIE, Visit, VisitOf
from schemas.fields import SYSTEM_NETWORK
from schemas.history import HistoryRow
from schemas.network import NetworkList, NetworkPage

router = APIRouter()
_QUIET_S = 10.0


@router.get("/events")
async def show_events(visit: VisitOf, network: str = "") -> Response:
    """The page."""
    known = await visit.ask(NetworkList(limit=500), NetworkPage)
    names = [each.network for each in known.networks]
    if not visit.identity.confined:
        names.append(SYSTEM_NETWORK)
    return visit.page("events.html", names=names, chosen=network)


@router.get("/events/stream")
async def stream(visit: VisitOf, network: str = "", after: str = "") -> Response:
    """Server-sent events: each row as JSON, as this identity may see it, since what the page had seen."""
    told = _told(visit, network, visit.request.headers.get("Last-Event-ID") or after or None)
    first = await anext(told)  # whoever may not listen is told so, by the status
    return StreamingResponse(
        _all(first, told),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _all(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for each in rest:
        yield each


async def _told(visit: Visit, network: str, after: str | None) -> AsyncIterator[str]:
    """The stream; its first part is there as soon as somebody listens. It ends with the session."""
    cookie = visit.request.cookies.get(COOKIE, "")
    with visit.site.happenings.listening(after, of=visit.identity.name) as listener:
        yield ": here you are\n\n"
        while True:
            found = await listener.next(_QUIET_S)
            if visit.site.sign_ins.find(cookie) is None:
                return
            if found is None:
                yield ": quiet\n\n"
            elif isinstance(found, Missed):
                yield "event: missed\ndata: {}\n\n"
            elif network in ("", found.network) and (row := seen(visit, found)) is not None:
                yield f"id: {row_id(row)}\nevent: row\ndata: {row.model_dump_json(exclude_none=True)}\n\n"


def seen(visit: Visit, row: HistoryRow) -> HistoryRow | None:
    """A row as this identity may see it: of pools without owners' names, tenants look for themselves."""
    if row.network == SYSTEM_NETWORK and visit.identity.confined:
        return None
    return permits.seen_row(visit.identity, row, frozenset())
