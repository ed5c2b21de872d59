"""docs/message-reference.md: requests, answers and their fields as tables."""

from typing import Any

from docs.making import models
from docs.making.asyncapi import address, new_fields, senders
from schemas.history import Events
from schemas.message import Message
from schemas.requests import REQUESTS

_HEAD = """\
# Message reference

Made by `make asyncapi` of the models in `schemas/`, as is [asyncapi.yaml](asyncapi.yaml) (AsyncAPI 3.0),
which programs read: do not change it by hand. What messages mean, and how they are sent:
[messages.md](messages.md).
"""


def text() -> str:
    """The page."""
    schemas = models.all_schemas()
    parts = [_HEAD]
    for name, model in REQUESTS.items():
        versions = "version 1" if model.VERSION == 1 else f"versions 1 to {model.VERSION}"
        parts.append(
            f"## {name}\n\n{_prose(model.__doc__)}\n\n"
            f"Routing key `{address(model)}`; {versions}; may be sent by: {', '.join(senders(name))}. "
            f"Answer: [{model.ANSWER.__name__}](#{model.ANSWER.__name__.lower()}).\n\n"
            + _table(schemas[models.asked(model)])
            + _new(new_fields(name, model.VERSION))
        )
    answers = {model.ANSWER.__name__: model.ANSWER for model in REQUESTS.values()}
    told: list[type[Message]] = [*(answers[name] for name in sorted(answers)), Events]
    for answer in told:
        schema = schemas[models.told(answer)]
        parts.append(f"## {answer.__name__}\n\n{_prose(answer.__doc__)}\n\n{_table(schema)}")
    parts.append("## Parts\n\nObjects inside requests and answers.\n")
    shown = {models.asked(model) for model in REQUESTS.values()} | {models.told(each) for each in told}
    for name, schema in sorted(_parts(schemas, shown).items()):
        parts.append(f"### {name}\n\n{_prose(schema.get('description'))}\n\n{_table(schema)}")
    return "\n".join(parts)


def _parts(schemas: dict[str, Any], shown: set[str]) -> dict[str, Any]:
    """The objects that are inside others, once where requests and answers have the same."""
    found = {}
    for name, schema in schemas.items():
        if name not in shown and not name.endswith((".Answer", ".Nudge")):
            found[name.partition(".")[2]] = schema
    return found


def _new(fields: dict[str, list[str]]) -> str:
    return "".join(
        f"\nNew in version {number}: {', '.join(f'`{field}`' for field in names) or 'other values'}.\n"
        for number, names in fields.items()
    )


def _prose(text_: str | None) -> str:
    return "\n".join(line.strip() for line in (text_ or "").strip().splitlines())


def _table(schema: dict[str, Any]) -> str:
    properties = schema.get("properties", {})
    if not properties:
        return "It has no fields.\n" if schema.get("type") == "object" else f"Written as: {_kind(schema)}.\n"
    needed = schema.get("required", [])
    rows = [
        f"| `{field}` | {'yes' if field in needed else ''} | {_kind(said)} | {_default(said)} |"
        for field, said in properties.items()
    ]
    return "| field | must be there | what | default |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _default(said: dict[str, Any]) -> str:
    default = said.get("default")
    return (
        ""
        if default in (None, [], {}, "")
        else f"`{default}`".replace("True", "true").replace("False", "false")
    )


def _kind(said: dict[str, Any]) -> str:
    if "$ref" in said:
        name = said["$ref"].rpartition(".")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in said:
            kinds = [_kind(each) for each in said[several] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in said or "const" in said:
        return ", ".join(f"`{value}`" for value in said.get("enum", [said.get("const")]))
    if said.get("type") == "array":
        inner = said.get("items") or {}
        return f"list of {_kind(inner)}" if inner else "list"
    limits = [
        words.format(said[key])
        for key, words in (
            ("minimum", "at least {}"),
            ("maximum", "at most {}"),
            ("minLength", "at least {} characters"),
            ("maxLength", "at most {} characters"),
            ("format", "{}"),
        )
        if key in said
    ]
    return ", ".join([said.get("type", "anything"), *limits])
