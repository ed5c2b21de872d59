"""`moorage dead replay|discard`."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from uuid import uuid4

import typer

from broker.dead_letters.acting import Done, Run, discard, replay
from broker.dead_letters.box import Box
from broker.dead_letters.choosing import Choice
from broker.dead_letters.post import Post
from console.changes import ActorOption, YesOption, confirm, has_to_ask
from console.dead_access import letters, outgoing
from console.dead_looking import Seen, bar, look
from console.dead_options import AllOption, check_meant, choosing
from console.dead_preview import foresee
from console.dead_tables import draw_summary, short
from console.output import Column, Output, OutputOption, draw_rows, emit, say, stderr, stdout
from console.session import EXIT_CODES, Session, asking
from schemas.errors import Code, ServiceError

_SHOWN = 20

_Act = Callable[[Box, Post, Run], AsyncIterator[Sequence[Done]]]

_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="only say what each would do: apply, no-op, stale, failing")
]
_Force = Annotated[bool, typer.Option("--force", help="also those that died five times or more")]
_Why = Annotated[str | None, typer.Option("--because", metavar="TEXT", help="why; history keeps it")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("replay", epilog=EXIT_CODES)(choosing(replay_letters))
    group.command("discard", epilog=EXIT_CODES)(choosing(discard_letters))


@dataclass(slots=True)
class _Told:
    """What became of the letters: how many are out of the box, and the first of those that are not."""

    run: str
    done: int = 0
    left: int = 0
    examples: list[Done] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, batch: Sequence[Done]) -> None:
        for one in batch:
            if one.left is None:
                self.done += 1
                self.kinds[one.letter.request or "unknown", one.letter.code] += 1
            else:
                self.left += 1
                self.examples = [*self.examples, one][:_SHOWN]

    def as_json(self, word: str) -> dict[str, Any]:
        left = [
            {"id": one.letter.id, "request": one.letter.request, "why": one.left} for one in self.examples
        ]
        return {"run": self.run, word: self.done, "left": self.left, "first_left": left}


def replay_letters(
    ctx: typer.Context,
    choice: Callable[[], Choice],
    everything: AllOption = False,
    dry_run: _DryRun = False,
    force: _Force = False,
    because: _Why = None,
    actor: ActorOption = None,
    output: OutputOption = "table",
) -> None:
    """Send dead letters to the allocator once more, in the order of their death.

    One that fails again comes back, with its count. Repeating a replay is safe: what was applied before is
    not applied twice. What its sender was not allowed to ask is never replayed.
    """
    with asking(ctx, output) as session:
        meant = choice()
        check_meant(meant, everything)
        run = Run(uuid4().hex, actor, meant, because, force)
        if dry_run:
            foresee(session, run, output)
            return
        told = _carry_out(replay, run, session, "Replaying", "replayed", output)
        if told.done:
            say(
                "The allocator serves them now. Those that fail again come back: "
                f"`moorage dead list --run {run.id}` shows them."
            )
        if told.left:
            raise typer.Exit(1)


def discard_letters(
    ctx: typer.Context,
    choice: Callable[[], Choice],
    everything: AllOption = False,
    because: _Why = None,
    yes: YesOption = False,
    actor: ActorOption = None,
    output: OutputOption = "table",
) -> None:
    """Take dead letters out for good. History keeps which they were; `moorage dead export` keeps them whole.

    A request that is discarded is never carried out. Those that die while you are asked are left alone.
    """
    with asking(ctx, output) as session:
        meant = choice()
        check_meant(meant, everything)
        must_ask = has_to_ask(yes)
        if must_ask:
            seen = asyncio.run(_look(session, meant))
            if not seen.matching:
                raise ServiceError(Code.INVALID_REQUEST, "no dead letter is like that: nothing to discard")
            draw_summary(stderr(), seen.kinds)
            confirm(f"Discard these {seen.matching} dead letters, so that they are never carried out?")
            meant = replace(meant, died_by=seen.last_death)
        run = Run(uuid4().hex, actor, meant, because)
        _carry_out(discard, run, session, "Discarding", "discarded", output)


async def _look(session: Session, meant: Choice) -> Seen:
    async with letters(session) as box:
        return await look(box, meant, keep=0)


def _carry_out(act: _Act, run: Run, session: Session, doing: str, done: str, output: Output) -> _Told:
    """Replay or discard, with a bar meanwhile, and tell what came of it, also where it fails half-way."""
    told = _Told(run.id)

    async def all_of_them() -> None:
        async with outgoing(session) as out, letters(session) as box:
            with bar(doing, box.count) as step:
                async for batch in act(box, out, run):
                    told.add(batch)
                    step(len(batch))

    try:
        asyncio.run(all_of_them())
    except BaseException:
        if output == "table":
            say(f"{done} before this: {told.done}")
        raise
    _end(told, done, output)
    return told


def _end(told: _Told, word: str, output: Output) -> None:
    if output == "json":
        emit(told.as_json(word))
        return
    console = stdout()
    if told.done:
        draw_summary(console, told.kinds)
    console.print(f"{word}: {told.done}")
    if told.left:
        console.print(f"left: {told.left}" + (f", the first {_SHOWN}:" if told.left > _SHOWN else ""))
        draw_rows(console, _LEFT, told.examples)
    console.file.flush()


_LEFT: tuple[Column[Done], ...] = (
    Column("ID", lambda one: short(one.letter.id)),
    Column("REQUEST", lambda one: one.letter.request or one.letter.routing_key),
    Column("WHY", lambda one: one.left, folds=True),
)
