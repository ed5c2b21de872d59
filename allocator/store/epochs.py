"""The database's epoch, its one row."""

from sqlalchemy import Connection, select, update

from allocator import tables as t


def current(connection: Connection) -> int:
    """The database's epoch: raised by a restore, so that numbers never go back."""
    found: int = connection.execute(select(t.epochs.c.epoch).where(t.epochs.c.id == 1)).scalar_one()
    return found


def touch(connection: Connection) -> None:
    """Write the epoch as it is: fails where the database takes no writes, and changes nothing."""
    connection.execute(update(t.epochs).where(t.epochs.c.id == 1).values(epoch=t.epochs.c.epoch))
