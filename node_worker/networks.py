"""What the journal holds of networks: what this node was told last, how far it is, and what it said.

All functions run in one transaction of `Journal.run`.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from schemas.errors import ErrorBody
from schemas.network import NetworkDefinition
from schemas.node import DesiredNetwork, DesiredState

Outcome = Literal["pending", "ready", "removed", "error"]


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """One network. `made` is what was last begun to be made here, and so has to be removed."""

    network: str
    version: int
    desired: DesiredState
    definition: NetworkDefinition | None
    made: NetworkDefinition | None
    outcome: Outcome
    error: ErrorBody | None
    reported: bool


_COLUMNS = "network, version, desired, definition, made, outcome, error, reported"


def told(connection: sqlite3.Connection, desired: DesiredNetwork) -> None:
    """Note what the node must make of a network. An older version than the known one is ignored."""
    known = connection.execute(
        "SELECT version, desired FROM networks WHERE network = ?", (desired.network,)
    ).fetchone()
    if known is not None and desired.version < known[0]:
        return
    if known == (desired.version, desired.state):
        if desired.state == "absent":  # still awaited: the report of it was lost on the other side
            connection.execute("UPDATE networks SET reported = 0 WHERE network = ?", (desired.network,))
        return
    definition = desired.definition.model_dump_json() if desired.definition is not None else None
    connection.execute(
        "INSERT INTO networks (network, version, desired, definition, outcome, reported) "
        "VALUES (?, ?, ?, ?, 'pending', 0) ON CONFLICT (network) DO UPDATE SET version = excluded.version, "
        "desired = excluded.desired, definition = excluded.definition, outcome = 'pending', error = NULL, "
        "reported = 0",
        (desired.network, desired.version, desired.state, definition),
    )


def listed(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """`names` is all there is to have or to remove: any other network is gone, with no word about it."""
    kept = set(names)
    rows = connection.execute("SELECT network FROM networks WHERE desired = 'present'").fetchall()
    for (network,) in rows:
        if network not in kept:
            connection.execute(
                "UPDATE networks SET desired = 'absent', definition = NULL, outcome = 'pending', "
                "error = NULL, reported = 0 WHERE network = ?",
                (network,),
            )


def making(connection: sqlite3.Connection, network: str, definition: NetworkDefinition) -> None:
    """Note what is begun to be made, before any of it is."""
    connection.execute(
        "UPDATE networks SET made = ? WHERE network = ?", (definition.model_dump_json(), network)
    )


def unmade(connection: sqlite3.Connection, network: str) -> None:
    """Note that nothing of the network is left here."""
    connection.execute("UPDATE networks SET made = NULL WHERE network = ?", (network,))


def came_out(
    connection: sqlite3.Connection, row: NetworkRow, outcome: Outcome, error: ErrorBody | None
) -> None:
    """Note how it went with the version of `row`; to be reported where that is news."""
    connection.execute(
        "UPDATE networks SET outcome = ?, error = ?, reported = 0 WHERE network = ? AND version = ? "
        "AND (outcome, error) IS NOT (?, ?)",
        (outcome, _text(error), row.network, row.version, outcome, _text(error)),
    )


def rows(connection: sqlite3.Connection) -> list[NetworkRow]:
    """All networks, by name."""
    return [_row(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM networks ORDER BY network")]  # noqa: S608


def unreported(connection: sqlite3.Connection) -> list[NetworkRow]:
    """Those whose outcome the allocator has not been told."""
    return [row for row in rows(connection) if row.outcome != "pending" and not row.reported]


def reported(connection: sqlite3.Connection, row: NetworkRow) -> None:
    """Note that the allocator knows the outcome of `row`; a network that is gone is forgotten then."""
    connection.execute(
        "UPDATE networks SET reported = 1 WHERE network = ? AND version = ? AND outcome = ? AND error IS ?",
        (row.network, row.version, row.outcome, _text(row.error)),
    )
    connection.execute("DELETE FROM networks WHERE outcome = 'removed' AND reported = 1")


def _text(error: ErrorBody | None) -> str | None:
    return error.model_dump_json() if error is not None else None


def _row(row: tuple[Any, ...]) -> NetworkRow:
    network, version, desired, definition, made, outcome, error, is_reported = row
    return NetworkRow(
        network=network,
        version=version,
        desired=desired,
        definition=NetworkDefinition.model_validate_json(definition) if definition is not None else None,
        made=NetworkDefinition.model_validate_json(made) if made is not None else None,
        outcome=outcome,
        error=ErrorBody.model_validate_json(error) if error is not None else None,
        reported=bool(is_reported),
    )
