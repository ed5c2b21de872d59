"""Statements whose rows are wanted, sent to the server together: one way there and back for all.

Each sees what was committed when it began, as if it had been sent alone (READ COMMITTED). A row comes as one
JSON array: the driver takes longer to read what a dozen columns are called than the server to find the row.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Found(Generic[T]):
    """The rows of one statement, once it was sent."""

    def __init__(self, read: Callable[..., T]) -> None:
        """`read` is called with the columns of each row."""
        self._read = read
        self.rows: list[T] = []

    def take(self, rows: Sequence[tuple[str]]) -> None:
        """What the driver gave."""
        read = self._read
        self.rows = [read(*json.loads(row)) for (row,) in rows]


class Reads:
    """SELECTs that do not depend on one another's rows."""

    def __init__(self) -> None:
        self._statements: list[str] = []
        self._values: list[Any] = []
        self._found: list[Found[Any]] = []

    def add(self, statement: str, values: Sequence[Any], read: Callable[..., T]) -> Found[T]:
        """One statement with a %s for each value; a list as value stands for (a, b, ...).

        It selects one JSON_ARRAY, whose items `read` is called with; bytes in it are to be HEX.
        """
        self._statements.append(statement)
        self._values += values
        found = Found(read)
        self._found.append(found)
        return found

    def send(self, connection: Connection) -> None:
        """Have the server answer all of it, in order. Raises what the first statement raises that fails."""
        if self._statements:
            # Not Core, which would take longer to bind and convert than the server to look up.
            result = connection.exec_driver_sql("; ".join(self._statements), tuple(self._values))
            for found, rows in zip(self._found, result.cursor.sets, strict=True):
                found.take(rows)
            result.close()
        self._statements, self._values, self._found = [], [], []
