"""Every `moorage` command that a page shows, in a sentence or a transcript, can be given."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from compose.cli import assemble

UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, which typer brings along

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
INLINE = re.compile(r"`(moorage [a-z][^`\n]*)`")
TYPED = re.compile(r"^(?:\$ )?((?:[A-Z_]+=\S+ )*moorage [a-z].*)$", re.MULTILINE)
BLOCK = re.compile(r"```(?:text|sh|console)\n(.*?)```", re.DOTALL)
MEANT = {
    "N": "12",
    "ID": "0b0e6f0c-6f0f-4f56-9f6d-1a1f5f5c9a11",
    "ADDRESS": "10.77.0.10",
    "ROLE": "operator",
}
"""What stands for what people put in; other words in capitals may be any text."""

ALIASES = {"moorage vlan", "moorage network NAME"}
"""What links are marked with: no commands."""


def commands() -> Iterator[tuple[str, str]]:
    """Each page and command."""
    for page in PAGES:
        text = page.read_text()
        blocks = "\n".join(BLOCK.findall(text))
        for command in {*INLINE.findall(text), *TYPED.findall(blocks)} - ALIASES:
            yield page.relative_to(ROOT).as_posix(), command


def words(command: str) -> list[str]:
    """The arguments, without what a shell does with them."""
    plain = command.split("  #", maxsplit=1)[0].replace("$places", "")
    plain = plain.replace("...", "web").replace("|", " | ")
    found = shlex.split(plain.replace("`", ""), comments=True)
    while "=" in found[0]:
        found.pop(0)
    for end in (";", "|", ">", ">/dev/null", "2>&1", "&&"):
        if end in found:
            found = found[: found.index(end)]
    return [MEANT.get(word, word) for word in found[1:] if not word.startswith(">")]


@cache
def moorage() -> Any:
    return typer.main.get_command(assemble())


def parse(arguments: list[str]) -> None:
    """Raises UsageError where the command line cannot be used."""
    command = moorage()
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if hasattr(command, "commands") and arguments:
        raise UsageError(f"there is no {arguments[0]}")
    if not arguments:
        return  # it is named, not given
    command.make_context(command.name, list(arguments))


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_a_command_that_a_page_shows_can_be_given(page: str, command: str) -> None:
    parse(words(command))


@pytest.mark.parametrize(
    "command", ["moorage dead list --colour red", "moorage network explode", "moorage node fence a b"]
)
def test_a_command_that_cannot_be_given_is_found(command: str) -> None:
    with pytest.raises(UsageError):
        parse(words(command))
