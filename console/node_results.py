"""What each node said of a network, as a table."""

from collections.abc import Sequence

from rich.console import Console

from console.output import Column, draw_rows
from schemas.network import NodeResult


def _error(result: NodeResult) -> str | None:
    return f"{result.error.code}: {result.error.message}" if result.error is not None else None


_COLUMNS: tuple[Column[NodeResult], ...] = (
    Column("NODE", lambda result: result.node),
    Column("STATE", lambda result: result.state),
    Column("ERROR", _error, folds=True),
)


def draw_node_results(console: Console, results: Sequence[NodeResult]) -> None:
    """One row for each node, with its own error in full."""
    draw_rows(console, _COLUMNS, results)
