"""Messages as each version of them is written, kept for good: what is in here must be read for ever.

A request has a file for each of its versions, `NAME.vN.json`; answers and events have one,
`answers/MODEL.json`, to which bodies are added. `fields` names every field at any depth, and says whether it
must be there.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.history import Events
from schemas.message import Answer, Message
from schemas.node import Nudge
from schemas.requests import REQUESTS

FOLDER = Path(__file__).parent

Fields = Mapping[str, str]
"""Each field's path; `required` or `optional`, and the values it may have where they are listed."""


@dataclass(frozen=True)
class Recorded:
    """One file."""

    path: Path
    fields: Fields
    bodies: tuple[Mapping[str, Any], ...]


def request_path(name: str, version: int) -> Path:
    """Where the bodies of a request in one version are."""
    return FOLDER / f"{name}.v{version}.json"


def answer_path(model: type[Message]) -> Path:
    """Where the bodies of an answer or event are."""
    return FOLDER / "answers" / f"{model.__name__}.json"


def read(path: Path) -> Recorded:
    """What the file holds."""
    content = json.loads(path.read_text())
    return Recorded(path, content["fields"], tuple(content["bodies"]))


def answers() -> list[type[Message]]:
    """Every model that is sent and is no request."""
    named = {model.ANSWER.__name__: model.ANSWER for model in REQUESTS.values()}
    return [named[name] for name in sorted(named)] + [Answer, Events, Nudge]


def fields_of(model: type[BaseModel]) -> dict[str, str]:
    """The fields of `model` as they are recorded."""
    schema = model.model_json_schema(mode="validation")
    return dict(sorted(_fields(schema, schema.get("$defs", {}), "")))


def _fields(schema: Mapping[str, Any], definitions: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    for name, part in schema.get("properties", {}).items():
        path = f"{at}{name}"
        needed = "required" if name in schema.get("required", ()) else "optional"
        values = sorted(map(str, _values(part, definitions)))
        yield path, f"{needed}: {', '.join(values)}" if values else needed
        for kind, inner in _objects(part, definitions):
            yield from _fields(inner, definitions, f"{path}{kind}.")


def _objects(
    part: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects that a field may hold; of several, each with its type."""
    found = list(_parts(part, definitions))
    for schema in found:
        kind = schema.get("properties", {}).get("type", {}).get("const")
        if schema.get("properties"):
            yield (f"[{kind}]" if kind is not None else ""), schema


def _parts(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in part:
        yield from _parts(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return
    yield part
    for key in ("anyOf", "oneOf", "prefixItems"):
        for inner in part.get(key, ()):
            yield from _parts(inner, definitions)
    if isinstance(part.get("items"), dict):
        yield from _parts(part["items"], definitions)


def _values(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for inner in _parts(part, definitions):
        found |= set(inner.get("enum", ()))
        found |= {inner["const"]} if "const" in inner else set()
    return found
