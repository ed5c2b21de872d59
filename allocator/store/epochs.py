"""The database's epoch and whether the allocator is paused: its one row."""

from sqlalchemy import Connection, select, update

from allocator import tables as t


def current(connection: Connection) -> int:
    """The database's epoch: raised by a restore, so that numbers never go back."""
    found: int = connection.execute(select(t.epochs.c.epoch).where(t.epochs.c.id == 1)).scalar_one()
    return found


def paused(connection: Connection) -> bool:
    """Whether no new address is given out, because the database was restored from a backup."""
    return bool(connection.execute(select(t.epochs.c.paused).where(t.epochs.c.id == 1)).scalar_one())


def begin_after(connection: Connection, known: int, seen: int) -> bool:
    """Raise the epoch above `known` and `seen`, and pause; False where it is not `known` any more."""
    e = t.epochs.c
    statement = update(t.epochs).where(e.id == 1, e.epoch == known)
    return connection.execute(statement.values(epoch=max(known, seen) + 1, paused=1)).rowcount > 0


def begin_next(connection: Connection) -> int:
    """Raise the epoch and pause; the new epoch."""
    connection.execute(
        update(t.epochs).where(t.epochs.c.id == 1).values(epoch=t.epochs.c.epoch + 1, paused=1)
    )
    return current(connection)


def resume(connection: Connection) -> None:
    """End the pause."""
    connection.execute(update(t.epochs).where(t.epochs.c.id == 1).values(paused=0))


def touch(connection: Connection) -> None:
    """Write the epoch as it is: fails where the database takes no writes, and changes nothing."""
    connection.execute(update(t.epochs).where(t.epochs.c.id == 1).values(epoch=t.epochs.c.epoch))
