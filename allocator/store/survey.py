"""How much there is of everything: pools, addresses, nodes, networks, and what waits to be sent.

Nothing here locks a row. What each statement costs is said there: `survey` in docs/metrics.md sums it up.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, func, select, text

from allocator import tables as t

WITHHELD = ("waiting", "quarantined")
"""The states of addresses that are used and have no pod."""

_NOT_RELAYED_LOOKED_AT = 100
"""How many networks that are behind are looked at for their oldest row."""


class PoolCount(NamedTuple):
    """One family of one pool: how many addresses it has, and how many of them are not free."""

    network: str
    pool: str
    pool_id: int
    family: int
    total: int
    used: int


class Lag(NamedTuple):
    """History that was not relayed: rows, and the age of the oldest in seconds."""

    rows: int
    oldest_s: float


class Outbox(NamedTuple):
    """Jobs that are open, answers that wait to be sent, and the age of the oldest of those in seconds."""

    jobs: int
    answers: int
    oldest_s: float


# In SQL: there may be many more ranges than pools. An address is two numbers of 64 bits, which DECIMAL(65)
# holds; the sizes of v4 ranges come out the same way.
_POOLS = text(
    """
    SELECT n.name, p.name, p.id, r.family, r.total, r.used
    FROM (
        SELECT pool_id, family, SUM(used) AS used, SUM(
            (CAST(CONV(HEX(SUBSTR(last, 1, 8)), 16, 10) AS DECIMAL(65))
             - CAST(CONV(HEX(SUBSTR(first, 1, 8)), 16, 10) AS DECIMAL(65))) * 18446744073709551616
            + CAST(CONV(HEX(SUBSTR(last, 9, 8)), 16, 10) AS DECIMAL(65))
            - CAST(CONV(HEX(SUBSTR(first, 9, 8)), 16, 10) AS DECIMAL(65)) + 1
        ) AS total
        FROM ranges GROUP BY pool_id, family
    ) AS r JOIN pools AS p ON p.id = r.pool_id JOIN networks AS n ON n.id = p.network_id
    WHERE p.policy <> 'reserved'
    ORDER BY p.id, r.family
    """
)


def revision(connection: Connection) -> str | None:
    """The revision that the schema is at; None for none. As `schema.current`, which is slow, and logs."""
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def pools(connection: Connection) -> list[PoolCount]:
    """Each pool that hands out addresses. Reads every range, whose counters tell what is used."""
    return [
        PoolCount(network, pool, pool_id, family, int(total), int(used))
        for network, pool, pool_id, family, total, used in connection.execute(_POOLS)
    ]


def withheld(connection: Connection, pool_ids: Collection[int]) -> dict[tuple[int, str], int]:
    """How many addresses of each of these pools, by id, are `waiting` and `quarantined`.

    Walks just these in the index: the others, most of all where there are many, are what the counters tell.
    """
    a = t.allocations.c
    statement = (
        select(a.pool_id, a.state, func.count())
        .with_hint(t.allocations, "FORCE INDEX (ix_allocations_pool)")
        .where(a.pool_id.in_(pool_ids), a.family.in_((4, 6)), a.state.in_(WITHHELD))
        .group_by(a.pool_id, a.state)
    )
    return {(pool_id, state): count for pool_id, state, count in connection.execute(statement)}


def nodes(connection: Connection) -> dict[str, int]:
    """How many nodes are in each state. Reads every node."""
    n = t.nodes.c
    return _counted(connection, select(n.state, func.count()).group_by(n.state))


def networks(connection: Connection) -> dict[str, int]:
    """How many networks are in each state. Reads every network."""
    n = t.networks.c
    statement = select(n.state, func.count()).where(n.state.not_in(("system", "deleted")))
    return _counted(connection, statement.group_by(n.state))


def rollouts(connection: Connection) -> dict[str, int]:
    """On how many nodes how many networks are how far. Walks an index with a row for each pair."""
    r = t.rollouts.c
    return _counted(connection, select(r.state, func.count()).group_by(r.state))


def lag(connection: Connection) -> Lag:
    """How far the relay is behind. Reads every network, and one row of history of each that is behind."""
    n, h = t.networks.c, t.history.c
    behind = connection.execute(
        select(n.id, n.relayed_seq, n.seq).where(n.relayed_seq < n.seq).limit(_NOT_RELAYED_LOOKED_AT)
    ).all()
    rows, oldest = 0, 0.0
    for network_id, relayed, seq in behind:
        first = connection.execute(
            select(h.seq, _age(h.at))
            .where(h.network_id == network_id, h.seq > relayed)
            .order_by(h.seq)
            .limit(1)
        ).first()
        if first is not None:
            # From the first row that is there: a new epoch leaves a gap behind the position.
            rows += seq - first[0] + 1
            oldest = max(oldest, float(first[1]))
    return Lag(rows, oldest)


def outbox(connection: Connection) -> Outbox:
    """What of the jobs is left to do. An index leads to those that somebody waits for."""
    r = t.requests.c
    waiting = case((r.deadline.is_(None) & r.answer.is_not(None), 1), else_=0)
    answers = connection.execute(
        select(func.sum(waiting), func.max(case((waiting == 1, _age(r.created_at)), else_=0))).where(
            r.has_waiters == 1
        )
    ).one()
    jobs = connection.execute(select(func.count()).where(r.deadline.is_not(None))).scalar_one()
    return Outbox(jobs, int(answers[0] or 0), float(answers[1] or 0))


def _age(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.timestampdiff(text("MICROSECOND"), column, func.utc_timestamp(6)) / 1_000_000


def _counted(connection: Connection, statement: Select[Any]) -> dict[str, int]:
    return {state: count for state, count in connection.execute(statement)}
