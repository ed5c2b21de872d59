"""History to relay, an exchange that remembers, and relays that can be killed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, func, insert, select, update

from allocator import tables as t
from allocator.database import Database
from allocator.relay import Relay
from schemas.history import Events, HistoryRow
from schemas.message import MAX_BODY_BYTES

EPOCH = 1 << 40
"""Numbers begin with the database's epoch, far from zero."""


def network(engine: Engine, name: str = "prod", state: str = "active") -> int:
    """A network without history; its id."""
    values = {"name": name, "state": state, "version": EPOCH, "seq": EPOCH, "relayed_seq": EPOCH}
    with engine.begin() as connection:
        statement = insert(t.networks).values(**values, definition={}, since=datetime(2026, 1, 1))
        return int(connection.execute(statement).inserted_primary_key[0])  # type: ignore[index]


def write(engine: Engine, network_id: int, count: int = 1, **fields: Any) -> list[int]:
    """Further rows of a network's history, as a handler commits them; their seqs."""
    given = {"at": datetime.now(UTC).replace(tzinfo=None), "event": "address.freed", "details": {}, **fields}
    with engine.begin() as connection:
        locked = select(t.networks.c.seq).where(t.networks.c.id == network_id).with_for_update()
        seq = connection.execute(locked).scalar_one()
        seqs = list(range(seq + 1, seq + 1 + count))
        connection.execute(insert(t.history), [{"network_id": network_id, "seq": n, **given} for n in seqs])
        connection.execute(update(t.networks).where(t.networks.c.id == network_id).values(seq=seqs[-1]))
    return seqs


def seqs_of(engine: Engine, network_id: int) -> list[int]:
    """What history holds of a network, in order."""
    statement = select(t.history.c.seq).where(t.history.c.network_id == network_id)
    with engine.connect() as connection:
        return list(connection.execute(statement.order_by(t.history.c.seq)).scalars())


def unrelayed(engine: Engine) -> int:
    """How many networks have history that was not relayed."""
    statement = select(func.count()).where(t.networks.c.relayed_seq < t.networks.c.seq)
    with engine.connect() as connection:
        return int(connection.execute(statement).scalar_one())


class Recorder:
    """An exchange that remembers. `act` runs before a message is taken and may raise instead."""

    def __init__(self, act: Callable[[Events], Awaitable[None]] | None = None) -> None:
        self.act = act
        self.taken: list[Events] = []

    async def events(self, network: str, body: bytes) -> None:
        """Take one message."""
        assert len(body) <= MAX_BODY_BYTES
        found = Events.model_validate_json(body)
        assert found.network == network
        if self.act is not None:
            await self.act(found)
        self.taken.append(found)

    def rows(self, network: str = "prod") -> list[HistoryRow]:
        """All rows of a network as they came, repeated ones too."""
        return [row for events in self.taken if events.network == network for row in events.rows]

    def seqs(self, network: str = "prod") -> list[int]:
        """Their numbers."""
        return [row.seq for row in self.rows(network)]


def first_seen(seqs: Iterable[int]) -> list[int]:
    """What a reader keeps: it drops what is not beyond the last it has seen."""
    kept: list[int] = []
    for seq in seqs:
        if not kept or seq > kept[-1]:
            kept.append(seq)
    return kept


@asynccontextmanager
async def relaying(engine: Engine, exchange: Any, kind: type[Relay] = Relay) -> AsyncIterator[Relay]:
    """A relay that runs while the context lasts; one that died is no failure."""
    relay = kind(Database(engine), exchange, asyncio.get_running_loop())
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=20)
        if not task.cancelled():
            task.exception()
