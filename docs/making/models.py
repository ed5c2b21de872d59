"""The JSON schemas of all messages, as pydantic has them, under the names that the AsyncAPI document uses."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.history import Events
from schemas.message import Answer, Message, Request
from schemas.node import Nudge
from schemas.pool import AddressRange
from schemas.requests import REQUESTS

Schema = dict[str, Any]
_REF = "#/components/schemas/"


def asked(model: type[Message]) -> str:
    """The name of a request's schema, or of a part of one."""
    return f"request.{model.__name__}"


def told(model: type[Message]) -> str:
    """The name of the schema of an answer, event or nudge."""
    return f"told.{model.__name__}"


def all_schemas() -> dict[str, Schema]:
    """Requests, where an unknown field is refused at any depth, and what is told, where readers pass it."""
    answers = {model.ANSWER.__name__: model.ANSWER for model in REQUESTS.values()}
    requests = _schemas(REQUESTS.values(), "request")
    rest = _schemas([*(answers[name] for name in sorted(answers)), Answer, Events, Nudge], "told")
    return {name: _strict(schema) for name, schema in requests.items()} | rest


def _schemas(models: Iterable[type[BaseModel]], prefix: str) -> dict[str, Schema]:
    template = f"{_REF}{prefix}.{{model}}"
    wanted = [(model, "validation") for model in models]
    _, found = models_json_schema(wanted, ref_template=template)  # type: ignore[arg-type]
    found["$defs"]["AddressRange"] = AddressRange.model_json_schema(mode="serialization") | {
        "title": "AddressRange",
        "description": _about(AddressRange),
    }
    return {f"{prefix}.{name}": _plain(schema) for name, schema in sorted(found["$defs"].items())}


def _about(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _plain(part: Any) -> Any:
    """Without `discriminator`, which OpenAPI means otherwise than AsyncAPI does."""
    if isinstance(part, dict):
        return {key: _plain(value) for key, value in part.items() if key != "discriminator"}
    return [_plain(value) for value in part] if isinstance(part, list) else part


def _strict(schema: Schema) -> Schema:
    return {**schema, "additionalProperties": False} if "properties" in schema else schema


def ref(name: str) -> Schema:
    """A reference to a schema."""
    return {"$ref": _REF + name}


def answered(model: type[Request]) -> Schema:
    """What the reply to a request is: `result` as its own answer, or `error`."""
    error = ref("told.ErrorBody")
    return {
        "type": "object",
        "properties": {
            "result": {"anyOf": [ref(told(model.ANSWER)), {"type": "null"}]},
            "error": {"anyOf": [error, {"type": "null"}]},
        },
    }
