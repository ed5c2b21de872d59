"""The real database as a test finds it."""

from sqlalchemy import URL, Connection, Engine

from allocator import tables
from allocator.database import open_engine

_IDLE_S = 1800


def patient_engine(url: str | URL) -> Engine:
    """An engine whose connections outlast whatever a test does between two looks.

    The product's own have the server end sessions that were idle for half a minute, and it tries again where
    it finds one ended. A test that looks with a bare connection tries once: where the machine is slow, the
    second connection that an earlier test left in the pool would fail it.
    """
    return open_engine(url, idle_s=_IDLE_S)


def clear(connection: Connection) -> None:
    """Leave no row but the epoch's and the reserved network's."""
    for table in reversed(tables.metadata.sorted_tables):
        if table.name not in ("epochs", "networks"):
            connection.execute(table.delete())
    connection.execute(tables.networks.delete().where(tables.networks.c.state != "system"))
    connection.execute(tables.networks.update().values(seq=0, relayed_seq=0))
    connection.execute(tables.epochs.update().values(epoch=1, paused=0))
