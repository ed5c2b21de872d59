"""The fenced blocks of the documents, and the marks before them that say what their tests do with them.

A mark is an HTML comment on the line before the fence, which neither a repository view nor the site shows:

    <!-- run: NAME OPTION... -->    the block is run, and what it shows is what is printed
    <!-- output: NAME -->           the block is what the block NAME printed
    <!-- file: NAME path=PATH -->   the block is written into that file of the scratch folder
    <!-- not run: REASON -->        it cannot be run here

Options: `exit=N` of the last command, or `exit=N,N` of each (1 for one that shows a line `error: ...`);
`order=any` for lines that come in any order; `at=NODE` or `at=OWNER` for the network namespace to run it in;
`needs=KIND,KIND` for kinds of links (tests/links.py); `until=TEXT` for a command that does not end: the page
goes on once it printed TEXT (`_` stands for a blank).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"<!-- (run|output|file|not run): ((?:(?!-->).)*) -->\n *$", re.DOTALL)
_OPTIONS = {"run": {"exit", "at", "needs", "until", "order"}, "output": set[str](), "file": {"path"}}
_COMMANDS = ("sh", "bash", "console")


class Unreadable(ValueError):
    """A mark that says nothing."""


@dataclass(frozen=True)
class Step:
    """One command as it is typed, and what the block says it prints; None where it shows nothing of it."""

    command: str
    shown: str | None


@dataclass(frozen=True)
class Block:
    """A fenced block and its mark."""

    page: str
    line: int
    language: str
    text: str
    kind: str | None = None
    """`run`, `output`, `file`, `not run`, or None where there is no mark."""
    name: str = ""
    """Its name on the page; the reason of one that is not run."""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """For a message."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> bool:
        """Whether it shows commands."""
        typed = self.language == "text" and re.search(r"^\$ ", self.text, re.MULTILINE) is not None
        return typed or self.language in (*_COMMANDS, "python")

    @property
    def needs(self) -> list[str]:
        """The kinds of links that it needs."""
        return [kind for kind in self.options.get("needs", "").split(",") if kind]

    @property
    def statuses(self) -> list[int]:
        """What each of its commands has to end with."""
        usual = [
            int(re.search(r"^error: ", step.shown or "", re.MULTILINE) is not None) for step in self.steps
        ]
        said = [int(status) for status in self.options.get("exit", "").split(",") if status]
        return usual[: -len(said)] + said if said else usual

    @property
    def steps(self) -> list[Step]:
        """Its commands in order: those of a transcript have what they print."""
        if self.language == "python":
            return [Step(f"python - <<'BLOCK'\n{self.text}BLOCK", None)]
        if self.language != "text":
            whole = [self.text] if "<<" in self.text else re.split(r"(?<!\\)\n", self.text)
            return [Step(line, None) for line in whole if line.strip() and not line.startswith("#")]
        found: list[Step] = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, shown = part.split("\n", 1)
            while command.endswith("\\"):
                more, shown = shown.split("\n", 1)
                command = f"{command}\n{more.removeprefix('> ')}"
            found.append(Step(command, shown))
        return found


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order. Raises `Unreadable`."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        indent = len(match[1])
        body = "".join(row[indent:] for row in match[3].splitlines(keepends=True))
        mark = _MARK.search(text[: match.start()])
        yield _marked(Block(name, line, match[2], body), mark)


def _marked(block: Block, mark: re.Match[str] | None) -> Block:
    if mark is None:
        return block
    kind, said = mark[1], " ".join(mark[2].split())
    if kind == "not run":
        return Block(block.page, block.line, block.language, block.text, kind, said)
    name, *words = said.split()
    options = dict(word.split("=", 1) if "=" in word else (word, "") for word in words)
    if not re.fullmatch(r"[a-z0-9-]+", name) or not options.keys() <= _OPTIONS[kind]:
        raise Unreadable(f"{block.where}: {said}")
    return Block(block.page, block.line, block.language, block.text, kind, name, options)


def every_block() -> list[Block]:
    """The blocks of all pages."""
    return [block for page in PAGES for block in blocks(page)]
