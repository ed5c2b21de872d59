"""What all administrative requests share: a repeated one gets the answer that was stored with it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from allocator.store import requests
from allocator.work import Work
from broker.outcome import DEFERRED, Delivery, Outcome, Refused, Reply
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.message import Administrative, Answer


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
