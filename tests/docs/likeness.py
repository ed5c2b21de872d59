"""Whether a command printed what a document shows, but for what is another each time: times, ids."""

import re

_ANY_LINES = "..."
_OTHER_EACH_TIME: tuple[tuple[str, str], ...] = (
    (r"\b(?!(?:0a:58|ff:ff|00:00):)[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "MAC"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b\d\d:\d\d:\d\d(\.\d+)?\b(?!:)", "TIME"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\bfe80::[0-9a-f:]+", "LINK-LOCAL"),
    (r"\bm([ohv])[0-9a-f]{13}\b", r"m\1LINK"),
    (r"\bmoorage_[0-9a-f]{12}\b", "moorage_TABLE"),
    (r"\b[0-9a-f]{12,64}\b", "ID"),
    (r"\b\d{13,}\b", "NUMBER"),
    (r"@if\d+\b", "@ifN"),
    (r"^\d+: ", "N: "),
    (r"\b\d+(\.\d+)? ms\b", "N ms"),
    (r"\btime=\d+(\.\d+)?", "time=N"),
    (r"\b\d+(\.\d+)?s\b", "Ns"),
    (r"\bafter \d+(\.\d+)? s\b", "after N s"),
    (r"\b127\.0\.0\.1:\d{4,5}\b", "127.0.0.1:PORT"),
    (r"\b(revision|needs) \d{4}\b", r"\1 NNNN"),
    (r"\bpid \d+\b", "pid N"),
)


def plain(text: str) -> list[str]:
    """The lines of a text, each with one blank for several and without what is another each time."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        for pattern, stands in _OTHER_EACH_TIME:
            line = re.sub(pattern, stands, line)  # noqa: PLW2901
        lines.append(re.sub(r"[ \t]+", " ", line).strip())
    return lines if lines != [""] else []


def alike(shown: str, printed: str, *, in_order: bool = True) -> bool:
    """Whether `printed` is what a document shows.

    `...` in a line of the document stands for any text, and a line of it for any number of lines.
    """
    wanted, found = plain(shown), plain(printed)
    if not in_order:
        return _all_there(wanted, found)
    pattern = [r"(?:.*\n)*?" if line == _ANY_LINES else _pattern(line) + "\n" for line in wanted]
    return re.fullmatch("".join(pattern), "".join(f"{line}\n" for line in found)) is not None


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("..."))


def _all_there(wanted: list[str], found: list[str]) -> bool:
    """Whether each line is there, as often as it is wanted, and no other unless a line of `...` says so."""
    left = list(found)
    for line in wanted:
        if line == _ANY_LINES:
            continue
        match = next((each for each in left if re.fullmatch(_pattern(line), each)), None)
        if match is None:
            return False
        left.remove(match)
    return not left or _ANY_LINES in wanted
