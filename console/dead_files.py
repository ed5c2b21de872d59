"""`moorage dead export|import`: dead letters as JSON lines, one letter a line."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO
from uuid import uuid4

import typer

from broker.dead_letters.acting import Done, Run, restore
from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import Letter, from_json
from console.changes import ActorOption
from console.dead_access import letters, outgoing
from console.dead_looking import bar, batches
from console.dead_options import choosing
from console.output import OutputOption, emit, say
from console.session import EXIT_CODES, Session, asking
from schemas.dead import AUDITED_AT_ONCE
from schemas.errors import Code, ServiceError

_Target = Annotated[str, typer.Argument(metavar="FILE", help="where to write them; - for stdout")]
_Source = Annotated[str, typer.Argument(metavar="FILE", help="what `moorage dead export` wrote; - for stdin")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("export", epilog=EXIT_CODES)(choosing(export_letters, ids=False))
    group.command("import", epilog=EXIT_CODES)(import_letters)


def export_letters(
    ctx: typer.Context, choice: Callable[[], Choice], target: _Target, output: OutputOption = "table"
) -> None:
    """Write dead letters down, in the order of their death. They stay where they are."""
    with asking(ctx, output) as session:
        written = asyncio.run(_export(session, choice(), target))
        if output == "json" and target != "-":
            emit({"exported": written, "file": target})
        else:
            say(f"exported: {written}")


async def _export(session: Session, choice: Choice, target: str) -> int:
    written = 0
    with _written(target) as file:
        async with letters(session) as box:
            with bar("Exporting", box.count) as step:
                async for batch in batches(box, step):
                    chosen = [held.letter for held in batch if choice.fits(held.letter)]
                    file.writelines(f"{json.dumps(letter.as_json())}\n" for letter in chosen)
                    written += len(chosen)
    return written


@contextmanager
def _written(target: str) -> Iterator[TextIO]:
    """The file to write, which is there as a whole or not at all. Raises `invalid_request`."""
    if target == "-":
        yield sys.stdout
        return
    path = Path(target)
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with part.open("x", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise ServiceError(
            Code.INVALID_REQUEST, f"{target} cannot be written: {error.strerror}; name another file"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def import_letters(
    ctx: typer.Context, source: _Source, actor: ActorOption = None, output: OutputOption = "table"
) -> None:
    """Put exported letters back into the queue. Those that lie there already are left out.

    Nothing is put back unless every line can be read. Interrupted, it can be run again.
    """
    with asking(ctx, output) as session:
        given = _read(source)
        run = Run(uuid4().hex, actor, Choice(), f"imported from {Path(source).name}"[:255])
        there, done = asyncio.run(_import(session, run, given))
        left = [one for one in done if one.left is not None]
        if output == "json":
            emit({"imported": len(done) - len(left), "there_already": there, "left": len(left)})
        else:
            say(f"imported: {len(done) - len(left)}, there already: {there}")
        if left:
            say(f"{len(left)} letters were not taken: {left[0].left}. Run this again.", style="red")
            raise typer.Exit(1)


async def _import(session: Session, run: Run, given: Sequence[Letter]) -> tuple[int, list[Done]]:
    known: set[str] = set()
    async with letters(session) as box:
        async for batch in batches(box):
            known.update(held.letter.id for held in batch)
    missing = list({letter.id: letter for letter in given if letter.id not in known}.values())
    done: list[Done] = []
    async with outgoing(session) as out:
        with bar("Importing", len(missing)) as step:
            for start in range(0, len(missing), AUDITED_AT_ONCE):
                part = await restore(out, run, missing[start : start + AUDITED_AT_ONCE])
                done += part
                step(len(part))
    return len(given) - len(missing), done


def _read(source: str) -> list[Letter]:
    """The letters in a file. Raises `invalid_request` that names the first line that is none."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(Code.INVALID_REQUEST, f"{source} cannot be read: {error}") from error
    found: list[Letter] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(from_json(json.loads(line)))
        except ValueError as error:
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"{source}, line {number} is no letter as `moorage dead export` writes it: {error}. Nothing "
                "was imported",
            ) from error
    return found
