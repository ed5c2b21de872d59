"""`replay.preview`: a request carried out in a transaction that is taken back, to see what comes of it."""

from collections.abc import Callable, Iterator, Sequence

from pydantic import ValidationError
from sqlalchemy import Connection

from allocator.database import Database
from allocator.senders import authorize
from allocator.work import Work
from broker.outcome import Deferred, Delivery, Dropped, Outcome, Refused, Reply
from schemas.dead import ReplayPreview, ReplayPreviewed
from schemas.errors import Code, ServiceError
from schemas.message import Query, Request
from schemas.requests import REQUESTS
from schemas.validation import explain

Apply = Callable[[Sequence[Delivery], Work], Iterator[Outcome]]


class _TakenBack(Exception):
    """Ends the transaction without a commit."""

    def __init__(self, seen: ReplayPreviewed) -> None:
        self.seen = seen


def preview(request: ReplayPreview, database: Database, apply: Apply) -> ReplayPreviewed:
    """What would become of the request now. Nothing of it stays. Raises `Unavailable`."""
    try:
        delivery = Delivery(_read(request), request.sender, None, None, None)
        authorize(delivery)
    except ServiceError as error:
        return _failing(error)

    def attempt(connection: Connection) -> None:
        work = Work(connection)  # with a memory of its own: what is taken back must not be remembered
        (outcome,) = apply([delivery], work)
        raise _TakenBack(_seen(outcome, changes=work.has_changes))

    try:
        database.run(attempt)
    except _TakenBack as back:
        return back.seen
    raise AssertionError("a preview always takes back what it did")


def _read(request: ReplayPreview) -> Request:
    kind = REQUESTS.get(request.request)
    if kind is None or issubclass(kind, Query):
        raise ServiceError(Code.UNKNOWN_REQUEST, f"{request.request} is no request that changes anything")
    if not 1 <= request.version <= kind.VERSION:
        raise ServiceError(
            Code.UNSUPPORTED_VERSION,
            f"{kind.NAME} is understood in versions 1 to {kind.VERSION}, not {request.version}",
        )
    try:
        return kind.read(request.body.encode())
    except ValidationError as error:
        raise ServiceError(Code.INVALID_REQUEST, f"{kind.NAME}: {explain(error)}") from error


def _seen(outcome: Outcome, *, changes: bool) -> ReplayPreviewed:
    match outcome:
        case Refused(error):
            return _failing(error)
        case Dropped(reason):
            return ReplayPreviewed(prospect="stale", reason=reason)
        case Reply() | Deferred():
            return ReplayPreviewed(prospect="apply" if changes else "no-op")


def _failing(error: ServiceError) -> ReplayPreviewed:
    return ReplayPreviewed(prospect="failing", reason=error.message, code=str(error.code))
