"""Statements whose rows nobody reads, sent to the server together: one way there and back for all.

Each stands for itself there, in the order in which it was added, up to the first that fails: the transaction
is taken back then. So no statement goes on from a failed one, as if each had been sent alone. The server is
also told what has to hold between two of them, and fails where it does not.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from allocator.database import COMMIT, UNMET, Conflict, error_number

_ROWS = "SET @met = 9223372036854775807 + (ROW_COUNT() <> %s)"
"""A number, or one that is out of range, which is an error: MySQL and MariaDB have no plainer one in common
that depends on something outside of a stored program. (DO, which would set nothing, does not fail of it.)
"""


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

    def require_rows(self, count: int) -> None:
        """Let the server go on only where the statement before matched so many rows: else `Conflict`."""
        self.add(_ROWS, (count,))

    def commit(self) -> None:
        """Nothing is to follow."""
        self.add(COMMIT, ())

    def send(self, connection: Connection) -> None:
        """Have the server do all of it. Raises what the first statement raises that fails, or `Conflict`."""
        statements, values = self._statements, tuple(self._values)
        self._statements, self._values = [], []
        if not statements:
            return
        try:
            # Not Core, which would take longer to bind the values than the server to write them.
            connection.exec_driver_sql("; ".join(statements), values)
        except DBAPIError as error:
            if error_number(error) == UNMET:
                raise Conflict("a row is not as it was read, or as it was remembered") from error
            raise
