"""Which attachments had no pod at the last look, as the journal keeps it: a worker that is killed between two
looks would otherwise begin anew each time."""

import sqlite3
from collections.abc import Collection
from uuid import UUID


def note(connection: sqlite3.Connection, attachment_ids: Collection[UUID]) -> set[UUID]:
    """Keep these in the place of those of the last look, which are returned."""
    before = {UUID(row[0]) for row in connection.execute("SELECT attachment_id FROM missing")}
    if before != set(attachment_ids):
        connection.execute("DELETE FROM missing")
        connection.executemany("INSERT INTO missing VALUES (?)", [(str(one),) for one in attachment_ids])
    return before
