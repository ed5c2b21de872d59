"""Whether a request is one that Kubernetes' published OpenAPI knows, with nothing in it that it does not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

SPEC = Path(__file__).parent / "kubernetes_openapi"
DEFINITIONS: Mapping[str, Any] = json.loads((SPEC / "definitions.json").read_text())["$defs"]
PATHS: Mapping[str, Any] = json.loads((SPEC / "paths.json").read_text())


class Violation(Exception):
    """What of a request the OpenAPI does not know."""


@dataclass(frozen=True)
class Operation:
    """A request that was found to be well-formed."""

    verb: str
    path: str
    parameters: Mapping[str, str]
    query: Mapping[str, Any]
    media: str | None
    body: Any
    answer: str


def read(verb: str, path: str, query: Sequence[tuple[str, str]], media: str | None, body: bytes) -> Operation:
    """The request as the OpenAPI reads it. Raises Violation."""
    template, parameters = _template(path)
    operation = PATHS[template].get(verb)
    if operation is None:
        raise Violation(f"{verb} {template} is none of its operations")
    names = [name for name, _ in query]
    if len(set(names)) != len(names):
        raise Violation(f"a query parameter is given twice: {names}")
    found = {name: _parameter(operation["query"], name, text) for name, text in query}
    document = _body(operation, media, body)
    return Operation(verb, template, parameters, found, media, document, operation["answer"])


def _template(path: str) -> tuple[str, dict[str, str]]:
    parts = path.split("/")
    for template in PATHS:
        wanted = template.split("/")
        if len(wanted) != len(parts):
            continue
        pairs = list(zip(wanted, parts, strict=True))
        if all(part if each.startswith("{") else each == part for each, part in pairs):
            return template, {each[1:-1]: part for each, part in pairs if each.startswith("{")}
    raise Violation(f"there is no path {path}")


def _parameter(known: Mapping[str, str], name: str, text: str) -> Any:
    kind = known.get(name)
    if kind is None:
        raise Violation(f"there is no query parameter {name}")
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise Violation(f"{name}={text} is no boolean")
        return text.lower() == "true"
    if kind == "integer":
        if not text.isdigit():
            raise Violation(f"{name}={text} is no integer")
        return int(text)
    return text


def _body(operation: Mapping[str, Any], media: str | None, body: bytes) -> Any:
    if "body" not in operation:
        if body:
            raise Violation("there is a body where none is read")
        return None
    if not body:
        raise Violation("the body is missing")
    if "*/*" not in operation["media"] and media not in operation["media"]:
        raise Violation(f"content type {media} is none of {operation['media']}")
    document = yaml.safe_load(body) if media and media.endswith("yaml") else json.loads(body)
    complaints = complain(operation["body"], document)
    if complaints:
        raise Violation(f"strict decoding error: {'; '.join(complaints)}")
    return document


def complain(definition: str, document: Any, *, strict: bool = True) -> list[str]:
    """What is wrong with a document of that definition; with `strict`, unknown fields are, too."""
    return [
        f"{'.'.join(map(str, error.instance_path)) or 'it'}: {error.message}"
        for error in _validator(definition, strict).iter_errors(document)
    ]


@cache
def _validator(definition: str, strict: bool) -> Any:
    known = _strictly(DEFINITIONS) if strict else DEFINITIONS
    return jsonschema_rs.validator_for({"$ref": f"#/$defs/{definition}", "$defs": known})


def _strictly(schema: Any) -> Any:
    """As field validation `Strict` reads it: an object has the fields that are named, and no others."""
    if isinstance(schema, list):
        return [_strictly(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strictly(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found.setdefault("additionalProperties", False)
    return found
