"""A failed request as people and programs read it: the error, who is in the way, which node said what."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer
from pydantic import ValidationError

from console.node_results import draw_node_results
from console.output import Column, Output, draw_rows, say, stderr
from schemas.errors import ServiceError
from schemas.message import Answer
from schemas.network import NodeResult

_HOLDERS_SHOWN = 10
_HOLDERS: tuple[Column[Mapping[str, Any]], ...] = (
    Column("ADDRESS", lambda holder: holder.get("address")),
    Column("OWNER", lambda holder: holder.get("owner")),
    Column("STATE", lambda holder: holder.get("state")),
    Column("NODE", lambda holder: holder.get("node")),
)


def show_failure(error: ServiceError, output: Output, *, advice: str | None = None) -> None:
    """Tell people on stderr what failed and what to do; with `json` also print `{"error": ...}` on stdout."""
    if output == "json":
        answer = Answer(error=error.body())
        typer.echo(answer.model_dump_json(indent=2, exclude={"result"}, fallback=str))
    say(f"error: {error.message} ({error.code})", style="red")
    results = _node_results(error.fields.get("nodes"))
    if results:
        draw_node_results(stderr(), results)
    holders = _mappings(error.fields.get("holders"))
    if holders:
        draw_rows(stderr(), _HOLDERS, holders[:_HOLDERS_SHOWN])
    if len(holders) > _HOLDERS_SHOWN:
        say(f"and {len(holders) - _HOLDERS_SHOWN} more, which --output json names")
    if advice:
        say(advice)


def _mappings(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence):
        return []
    return [item for item in value if isinstance(item, Mapping)]


def _node_results(value: object) -> list[NodeResult]:
    """The results that can be read: another version's shape must not hide the error itself."""
    results = []
    for item in _mappings(value):
        try:
            results.append(NodeResult.model_validate(item))
        except ValidationError:
            continue
    return results
