"""`moorage dead list|show`: the requests that nobody could serve, as they lie in the queue."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.console import Console

from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import Letter
from console import dead_changes, dead_files
from console.dead_access import letters
from console.dead_looking import Seen, look
from console.dead_options import choosing, chosen
from console.dead_tables import draw_letters, draw_summary, letter_facts
from console.output import Output, OutputOption, draw_facts, emit, printable, say
from console.session import EXIT_CODES, Session, asking
from schemas.errors import Code, ServiceError

_PAGE_S = 0.8
"""How long a list that was not asked for all letters goes on looking."""

_SHARED = "Somebody else holds letters just now, so there may be more: look again in a moment."

_Limit = Annotated[int, typer.Option("--limit", min=1, help="show so many: those that died first")]
_Everything = Annotated[
    bool, typer.Option("--all", help="look at every letter and show all; without it a list takes 2 s")
]
_Summary = Annotated[bool, typer.Option("--summary", help="only how many there are of each kind")]


HELP = "The requests that nobody could serve: look, replay, discard."


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("list", epilog=EXIT_CODES)(choosing(list_letters, ids=False))
    group.command("show", epilog=EXIT_CODES)(show_letter)
    dead_changes.register(group)
    dead_files.register(group)


def list_letters(
    ctx: typer.Context,
    choice: Callable[[], Choice],
    limit: _Limit = 50,
    everything: _Everything = False,
    summary: _Summary = False,
    output: OutputOption = "table",
) -> None:
    """List dead letters, the oldest first death at the top. Looking changes nothing."""
    with asking(ctx, output) as session:
        keep = 0 if summary else None if everything else limit
        within_s = None if everything else _PAGE_S
        seen = asyncio.run(_look(session, choice(), keep, within_s))
        _show_list(seen, output, summary=summary)


async def _look(session: Session, choice: Choice, keep: int | None, within_s: float | None) -> Seen:
    async with letters(session) as box:
        return await look(box, choice, keep=keep, within_s=within_s)


def _show_list(seen: Seen, output: Output, *, summary: bool) -> None:
    kinds = [
        {"request": request, "code": code, "letters": letters}
        for (request, code), letters in seen.kinds.most_common()
    ]
    if output == "json":
        emit(
            {
                "count": seen.count,
                "looked": seen.looked,
                "matching": seen.matching,
                "kinds": kinds,
                "letters": [letter.as_json() for letter in seen.letters],
            }
        )
        return
    console = Console()
    if summary:
        draw_summary(console, seen.kinds)
    else:
        draw_letters(console, seen.letters)
    if not seen.count:
        say("There are no dead letters." if not seen.shared else _SHARED)
    elif not seen.complete:
        say(
            f"Looked at {seen.looked} of {seen.count} letters; the rest is younger, or out with somebody "
            "else who looks. --all looks at all of them."
        )
    elif seen.shared:
        say(_SHARED)
    elif seen.matching > len(seen.letters) and not summary:
        say(f"There are {seen.matching} such letters: raise --limit, or --all; --summary counts them.")


def show_letter(
    ctx: typer.Context,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="its id or the first 6 characters of it")],
    output: OutputOption = "table",
) -> None:
    """Show one dead letter: its story and its body."""
    with asking(ctx, output) as session:
        seen = asyncio.run(_look(session, chosen(ids=[letter_id]), None, None))
        letter = _only(seen.letters, letter_id, complete=seen.complete)
        if output == "json":
            emit(letter.as_json())
            return
        draw_facts(Console(), letter_facts(letter))
        typer.echo()
        typer.echo(_readable(letter))


def _only(found: Sequence[Letter], letter_id: str, *, complete: bool) -> Letter:
    ids = sorted({letter.id for letter in found})
    if len(ids) > 1:
        raise ServiceError(
            Code.INVALID_REQUEST, f"{letter_id} begins the ids of {len(ids)} letters: {', '.join(ids[:5])}"
        )
    if not found:
        elsewhere = "" if complete else ", or somebody else who looks has it just now: try again in a moment"
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"no dead letter has the id {letter_id}: it was replayed or discarded (`moorage history --nodes` "
            f"tells){elsewhere}",
        )
    return found[0]


def _readable(letter: Letter) -> str:
    """The body for people: JSON laid out, else text with control characters spelled out, else bytes."""
    document = letter.document
    if document is not None:
        return printable_lines(json.dumps(document, indent=2, ensure_ascii=False))
    text = letter.text
    return printable_lines(text) if text is not None else repr(letter.body)


def printable_lines(text: str) -> str:
    """As `printable`, line by line."""
    return "\n".join(printable(line) for line in text.split("\n"))
