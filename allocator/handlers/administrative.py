"""What all administrative requests share: a repeated one gets the answer that was stored with it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import RowMapping

from allocator.model import Network
from allocator.store import requests
from allocator.work import Work
from broker.outcome import DEFERRED, Delivery, Outcome, Refused, Reply
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.message import Administrative, Answer, Message

R = TypeVar("R", bound=Administrative)
Change = Callable[[R, Delivery, Work, Network], Message]


def once(change: Change[Any]) -> Callable[[Any, Delivery, Work], Outcome]:
    """Turn `change(request, delivery, work, network) -> answer` into a handler that is safe to repeat.

    The answer is stored in the same transaction, also a refusal: asked again, it is a refusal still. Not one
    that is worth trying again, nor one that nobody hears: that is a dead letter, to be replayed when its
    cause is away. `change` raises ServiceError before it has changed anything.
    """

    def handle(request: Any, delivery: Delivery, work: Work) -> Outcome:
        network = work.network(request.network)
        return settled(request, delivery, work, network.id, lambda: change(request, delivery, work, network))

    return handle


def settled(
    request: Administrative, delivery: Delivery, work: Work, network_id: int, change: Callable[[], Message]
) -> Outcome:
    """The outcome of the same request_id before, or of `change()` now, stored under the network."""
    known = earlier(request, delivery, work)
    if known is not None:
        return known
    work.actor = request.actor
    try:
        result = change()
    except ServiceError as error:
        if not error.retryable and delivery.reply_to is not None:
            requests.add(work.connection, network_id, request, work.now, answer=failed(error))
        return Refused(error)
    finally:
        work.actor = None
    work.flush()
    requests.add(work.connection, network_id, request, work.now, answer=succeeded(result))
    return Reply(result)


def earlier(request: Administrative, delivery: Delivery, work: Work) -> Outcome | None:
    """The outcome of the same request_id before; None if it is new.

    Raises `request_conflict` when the id came with another request.
    """
    row = requests.find(work.connection, request.request_id)
    if row is None:
        return None
    if row["fingerprint"] != requests.fingerprint(request):
        raise ServiceError(
            Code.REQUEST_CONFLICT,
            f"request_id {request.request_id} was used before for another {row['name']}; "
            "take a new request_id for a new request",
            request_id=request.request_id,
        )
    if row["deadline"] is not None:
        join(row, delivery, work)
        return DEFERRED
    answer = Answer.model_validate(row["answer"])
    if answer.error is not None:
        return Refused(ServiceError.from_body(answer.error))
    return Reply(request.ANSWER.model_validate(answer.result))


def check_version(what: str, current: int, expected: int | None) -> None:
    """Raise `version_conflict` unless `expected` is None or the current version."""
    if expected is not None and expected != current:
        raise ServiceError(
            Code.VERSION_CONFLICT,
            f"{what} is at version {current}, not {expected}: somebody changed it meanwhile. Look at it "
            "again, and ask with its present version if the change is still wanted",
            version=current,
        )


def join(row: RowMapping, delivery: Delivery, work: Work) -> None:
    """Have the sender told when the job is settled."""
    for waiter in waiters(delivery):
        requests.join_waiters(work.connection, row, waiter)


def waiters(delivery: Delivery) -> list[tuple[str, str]]:
    """Where the answer of a job goes: nowhere, if the sender did not ask for one."""
    if delivery.reply_to is None:
        return []
    return [(delivery.reply_to, delivery.correlation_id or "")]


def succeeded(result: Any) -> Mapping[str, Any]:
    """A success as it is stored and sent."""
    return Answer(result=result.model_dump(mode="json")).model_dump(mode="json")


def failed(error: ServiceError) -> Mapping[str, Any]:
    """A failure as it is stored and sent."""
    body: ErrorBody = error.body()
    return Answer(error=body).model_dump(mode="json")
