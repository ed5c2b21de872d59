"""Administrative requests, stored with their answers: repeatable, and the outbox of answers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from allocator import tables as t
from schemas.message import Administrative


def find(connection: Connection, request_id: str) -> RowMapping | None:
    """The request's row, locked; None if it is new."""
    statement = select(t.requests).where(t.requests.c.request_id == request_id).with_for_update()
    return connection.execute(statement).mappings().one_or_none()


def add(
    connection: Connection,
    network_id: int,
    request: Administrative,
    now: datetime,
    *,
    answer: Mapping[str, Any] | None,
    waiters: Sequence[tuple[str, str]] = (),
    deadline: datetime | None = None,
    keep_going: bool = False,
) -> None:
    """A request with its answer, or an open job (`answer` None) with those who wait for it."""
    connection.execute(
        insert(t.requests).values(
            request_id=request.request_id,
            name=request.NAME,
            network_id=network_id,
            fingerprint=fingerprint(request),
            answer=answer,
            waiters=[list(waiter) for waiter in waiters],
            has_waiters=bool(waiters),
            deadline=deadline,
            created_at=now,
            keep_going=int(keep_going),
        )
    )


_OF_THE_ATTEMPT = {"request_id", "deadline_s", "actor"}


def fingerprint(request: Administrative) -> str:
    """One short text for what is asked, whoever asks and how often."""
    body = json.dumps(request.model_dump(mode="json", exclude=_OF_THE_ATTEMPT), sort_keys=True)
    return hashlib.sha256(f"{request.NAME} {body}".encode()).hexdigest()


def join_waiters(connection: Connection, row: RowMapping, waiter: tuple[str, str]) -> None:
    """Add one more who waits; a repeated delivery of the same request adds nobody."""
    waiters = [tuple(known) for known in row["waiters"]]
    if waiter not in waiters:
        joined = [list(known) for known in (*waiters, waiter)]
        connection.execute(
            update(t.requests)
            .where(t.requests.c.request_id == row["request_id"])
            .values(waiters=joined, has_waiters=1)
        )


def open_deadline(connection: Connection, network_id: int) -> datetime | None:
    """When the network's open jobs end; None where there are none."""
    statement = select(t.requests.c.deadline).where(
        t.requests.c.network_id == network_id, t.requests.c.deadline.is_not(None)
    )
    return connection.execute(statement.order_by(t.requests.c.deadline).limit(1)).scalar()


def keeps_going(connection: Connection, network_id: int) -> bool:
    """Whether an open job wants its network kept although nodes cannot make it."""
    statement = select(t.requests.c.request_id).where(
        t.requests.c.network_id == network_id,
        t.requests.c.deadline.is_not(None),
        t.requests.c.keep_going == 1,
    )
    return connection.execute(statement.limit(1)).first() is not None


def is_answered(connection: Connection, network_id: int) -> bool:
    """Whether an open job of the network has its answer already, which is held back: a create that failed."""
    statement = select(t.requests.c.request_id).where(
        t.requests.c.network_id == network_id,
        t.requests.c.deadline.is_not(None),
        t.requests.c.answer.is_not(None),
    )
    return connection.execute(statement.limit(1)).first() is not None


def settle(
    connection: Connection, network_id: int, answer: Mapping[str, Any], deadline: datetime | None
) -> None:
    """Store the answer of all open jobs of a network. They stay open until `deadline`; None: send it now."""
    connection.execute(
        update(t.requests)
        .where(t.requests.c.network_id == network_id, t.requests.c.deadline.is_not(None))
        .values(answer=answer, deadline=deadline)
    )


def close(connection: Connection, network_id: int, answer: Mapping[str, Any]) -> None:
    """Send the answer of all open jobs of a network now: the stored one or, without one, `answer`."""
    r = t.requests.c
    is_open = (r.network_id == network_id, r.deadline.is_not(None))
    connection.execute(update(t.requests).where(*is_open, r.answer.is_(None)).values(answer=answer))
    connection.execute(update(t.requests).where(*is_open).values(deadline=None))


def overdue(connection: Connection, now: datetime, limit: int) -> list[str]:
    """The networks whose jobs have passed their deadline, by name."""
    statement = (
        select(t.networks.c.name)
        .join(t.requests, t.requests.c.network_id == t.networks.c.id)
        .where(t.requests.c.deadline < now)
        .distinct()
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def unsent(connection: Connection, limit: int) -> list[RowMapping]:
    """Answered jobs that somebody still waits for, oldest first."""
    statement = select(t.requests).where(
        t.requests.c.has_waiters == 1, t.requests.c.answer.is_not(None), t.requests.c.deadline.is_(None)
    )
    return list(connection.execute(statement.order_by(t.requests.c.created_at).limit(limit)).mappings())


def sent(connection: Connection, request_id: str) -> None:
    """Nobody waits any more."""
    connection.execute(
        update(t.requests).where(t.requests.c.request_id == request_id).values(waiters=[], has_waiters=0)
    )
