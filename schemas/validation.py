"""A pydantic error as one line that a person can act on."""

from pydantic import ValidationError

from schemas.fields import PATTERNS_IN_WORDS

_SHOWN = 5


def explain(error: ValidationError) -> str:
    """`field: what is wrong` for the first few fields of `error`, the innermost ones only."""
    found = error.errors(include_url=False, include_context=True)
    places = [tuple(str(part) for part in item["loc"]) for item in found]
    lines = []
    for item, place in zip(found, places, strict=True):
        if any(other != place and other[: len(place)] == place for other in places):
            continue  # follows from an error further in
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown field"
        elif item["type"] == "string_pattern_mismatch":
            message = PATTERNS_IN_WORDS.get(item["ctx"]["pattern"], message)
        lines.append(f"{'.'.join(place)}: {message}" if place else message)
    more = f" (and {len(lines) - _SHOWN} more)" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more
