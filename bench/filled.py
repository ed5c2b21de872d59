"""A database as it looks after a long time: a network with as many allocations as asked for, and history.

Rows are written straight into the tables, with those columns that the tables have. A column that must be
given and is not known here stops the run: then this file has to learn what belongs there.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, RowMapping, Table, func, insert, literal, select, update

from allocator import tables as t
from allocator.database import Database, open_engine
from allocator.model import derived_mac
from allocator.service import Allocator
from allocator.store import networks
from bench.machine import Tell
from bench.pods import new_network, new_pool
from broker.outcome import Deferred, Delivery, Reply
from schemas.message import Request

NETWORK = "bench"
FRESH, WORN, PINNED = "fresh", "worn", "pinned"
"""A pool with room above its cursor and nothing free below; one where half is free; one that is pinned."""

_CHUNK = 5_000
_STATEMENT_S = 600
_NODES = 500


@dataclass(frozen=True)
class _Part:
    """A pool, the share of the rows that it gets and the states they are in, in turn."""

    pool: str
    policy: str
    first: IPv4Address
    last: IPv4Address | None
    share: float
    states: tuple[str, ...]


_PARTS = (
    _Part(FRESH, "shared", IPv4Address("10.64.0.0"), IPv4Address("10.127.255.255"), 0.4, ("attached",)),
    _Part(WORN, "shared", IPv4Address("10.16.0.0"), None, 0.4, ("attached", "free")),
    _Part(PINNED, "pinned", IPv4Address("10.32.0.0"), None, 0.2, ("attached", "waiting")),
)


def fill(url: str, rows: int, tell: Tell) -> None:
    """Bring an empty database to `rows` allocations."""
    engine = open_engine(url, statement_s=_STATEMENT_S)
    try:
        allocator = Allocator(Database(engine), lambda notices, touched=(), answered=False: None)
        _ask(allocator, new_network(NETWORK))
        for part in _PARTS:
            tell(f"{round(rows * part.share):,} rows of pool {part.pool}")
            _fill(engine, allocator, part, round(rows * part.share))
        tell(f"history of {rows:,} rows")
        with engine.begin() as connection:
            _remember(connection)
    finally:
        engine.dispose()


def _ask(allocator: Allocator, request: Request) -> None:
    delivery = Delivery(request, "operator.bench", None, None, None)
    (outcome,) = allocator.apply([delivery])
    assert isinstance(outcome, Reply | Deferred), outcome


def _fill(engine: Engine, allocator: Allocator, part: _Part, rows: int) -> None:
    last = part.last or part.first + rows - 1
    _ask(allocator, new_pool(NETWORK, part.pool, f"{part.first}-{last}", part.policy))
    with engine.connect() as connection:
        found = connection.execute(select(t.ranges).where(t.ranges.c.first == part.first)).mappings().one()
        now = networks.database_time(connection)
    made = _rows(part, rows, found, now)
    held = 0
    while chunk := [row for row, _ in zip(made, range(_CHUNK), strict=False)]:
        held += sum(row["state"] != "free" for row in chunk)
        with engine.begin() as connection:
            connection.execute(insert(t.allocations), [known(t.allocations, row) for row in chunk])
    cursor = None if part.first + rows > last else part.first + rows
    with engine.begin() as connection:
        moved = update(t.ranges).where(t.ranges.c.id == found["id"])
        connection.execute(moved.values(used=held, cursor=cursor))


def _rows(part: _Part, count: int, found: RowMapping, now: datetime) -> Iterator[dict[str, Any]]:
    dice = random.Random(part.pool)
    for number in range(count):
        address, state = part.first + number, part.states[number % len(part.states)]
        owner, attached = f"{part.pool}/pod-{number}", state == "attached"
        yield {
            "network_id": found["network_id"],
            "range_id": found["id"],
            "pool_id": found["pool_id"],
            "family": 4,
            "address": address,
            "state": state,
            "since": now - timedelta(days=1, seconds=dice.random() * 86_400),
            "owner": owner,
            "pinned_owner": owner if part.policy == "pinned" else None,
            "ifname": "eth0",
            "mac": None if state == "free" else derived_mac(address),
            "node": f"node-{dice.randrange(_NODES)}" if attached else None,
            "container_id": f"{dice.getrandbits(256):064x}" if attached else None,
            "attachment_id": UUID(int=dice.getrandbits(128), version=4) if attached else None,
        }


def known(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """The part of `row` that the table has columns for."""
    unknown = [
        column.name
        for column in table.columns
        if column.name not in row
        and not (column.nullable or column.primary_key or column.default or column.server_default)
    ]
    assert not unknown, f"what belongs into {', '.join(unknown)} of {table.name}? Teach bench/filled.py"
    return {name: value for name, value in row.items() if name in table.columns}


def _remember(connection: Connection) -> None:
    """One `address.attached` for each row that somebody holds or held, already relayed."""
    network = connection.execute(select(t.networks).where(t.networks.c.name == NETWORK)).mappings().one()
    a = t.allocations.c
    values = {
        "network_id": a.network_id,
        "seq": network["seq"] + func.row_number().over(order_by=a.id),
        "at": a.since,
        "event": literal("address.attached"),
        "address": a.address,
        "owner": a.owner,
        "mac": a.mac,
        "ifname": a.ifname,
        "node": a.node,
        "container_id": a.container_id,
        "attachment_id": a.attachment_id,
        "user_id": literal("node.bench"),
        "details": literal("{}"),
    }
    columns = known(t.history, values)
    connection.execute(insert(t.history).from_select(list(columns), select(*columns.values())))
    last = select(func.max(t.history.c.seq)).scalar_subquery()
    moved = update(t.networks).where(t.networks.c.id == network["id"])
    connection.execute(moved.values(seq=last, relayed_seq=last))
