"""What a PromQL expression asks for: the series it selects and the labels it speaks of.

Not a parser of the language: enough for the expressions of ours, and it fails where it does not understand.
"""

import re

_WORDS = frozenset(
    {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
)
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_MATCHERS = re.compile(r"\{([^{}]*)\}")
_MATCHER = re.compile(r'\s*([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"\s*')
_RANGE = re.compile(r"\[(\d+[smhd]|\$__rate_interval)\]")
_NAME = re.compile(r"[a-zA-Z_:][\w:]*")


def selected(expression: str) -> list[tuple[str, frozenset[str]]]:
    """The name of each series and the labels that it is matched by. Raises ValueError."""
    rest = _GROUPING.sub(" ", expression)
    found = []
    at = 0
    while (match := _NAME.search(rest, at)) is not None:
        at = match.end()
        after = rest[at:].lstrip()
        if after.startswith("(") or match[0] in _WORDS or _is_number(rest, match):
            continue
        labels: frozenset[str] = frozenset()
        if after.startswith("{"):
            inside = _MATCHERS.search(rest, at)
            if inside is None:
                raise ValueError(f"matchers that do not end: {expression}")
            labels, at = _matched(inside[1]), inside.end()
        ranged = _RANGE.match(rest, at)
        at = ranged.end() if ranged else at
        found.append((match[0], labels))
    if rest.count("(") != rest.count(")"):
        raise ValueError(f"parentheses that do not match: {expression}")
    return found


def grouped(expression: str) -> frozenset[str]:
    """The labels that are grouped by, or joined on; not `le`, which the functions of histograms use up."""
    names = [name.strip() for _, listed in _GROUPING.findall(expression) for name in listed.split(",")]
    return frozenset(filter(None, names)) - {"le"}


def _matched(inside: str) -> frozenset[str]:
    labels, at = set(), 0
    while at < len(inside):
        match = _MATCHER.match(inside, at)
        if match is None:
            raise ValueError(f"no matcher: {inside[at:]}")
        labels.add(match[1])
        at = match.end() + 1  # a comma
    return frozenset(labels)


def _is_number(text: str, match: re.Match[str]) -> bool:
    return match.start() > 0 and text[match.start() - 1].isdigit()
