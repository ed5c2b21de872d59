"""Statements that nobody asks what they did, sent to the server together: one way there and back for all.

Each stands for itself there, in the order in which it was added, up to the first that fails: the transaction
is taken back then. So no statement goes on from a failed one, as if each had been sent alone.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from allocator.database import COMMIT

__all__ = ["COMMIT", "Writes"]


class Writes:
    """The end of one transaction. What is added is not seen by statements that are sent before `send`."""

    def __init__(self) -> None:
        self._statements: list[str] = []
        self._values: list[Any] = []

    def add(self, statement: str, values: Sequence[Any]) -> None:
        """One statement with a %s for each value."""
        self._statements.append(statement)
        self._values += values

    def add_rows(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """One INSERT of all `rows`, at least one; `statement` ends before VALUES."""
        row = f"({', '.join(['%s'] * len(rows[0]))})"
        self.add(
            f"{statement} VALUES {', '.join([row] * len(rows))}", [value for row in rows for value in row]
        )

    def send(self, connection: Connection) -> None:
        """Have the server do all of it. Raises what the first statement raises that fails."""
        if self._statements:
            # Not Core, which would take longer to bind the values than the server to write them.
            connection.exec_driver_sql("; ".join(self._statements), tuple(self._values))
        self._statements, self._values = [], []
