"""`moorage dead replay --dry-run`: what each letter would do, asked of the allocator."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from broker.dead_letters.acting import Run, why_left
from broker.dead_letters.letter import Letter
from console.dead_access import letters
from console.dead_looking import Seen, bar, look
from console.dead_tables import short
from console.output import Column, Output, draw_rows, emit, say, stdout
from console.session import Asker, Session
from schemas.dead import ReplayPreview, ReplayPreviewed
from schemas.errors import Code, ServiceError

_ASKED_AT_ONCE = 16
_MOST = 1000


@dataclass(frozen=True, slots=True)
class _Foreseen:
    letter: Letter
    answer: ReplayPreviewed


def foresee(session: Session, run: Run, output: Output) -> None:
    """Show what a replay would come to; nothing is changed. Raises what asking raises."""
    seen, foreseen = asyncio.run(_foresee(session, run))
    counts = Counter(one.answer.prospect for one in foreseen)
    if output == "json":
        rows = [
            {"id": one.letter.id, "request": one.letter.request, **one.answer.model_dump(mode="json")}
            for one in foreseen
        ]
        emit({"matching": seen.matching, "counts": counts, "letters": rows})
        return
    console = stdout()
    draw_rows(console, _COLUMNS, foreseen)
    console.print(", ".join(f"{prospect}: {count}" for prospect, count in sorted(counts.items())) or "none")
    console.file.flush()
    if seen.matching > len(foreseen):
        say(
            f"These are the {len(foreseen)} that died first, of {seen.matching}; the others were not asked "
            "about."
        )


async def _foresee(session: Session, run: Run) -> tuple[Seen, list[_Foreseen]]:
    # The letters are given back before anything is asked: that may take longer than they may be out.
    async with letters(session) as box:
        seen, user = await look(box, run.choice, keep=_MOST), box.user
    foreseen: list[_Foreseen] = []
    async with session.connect(session.url(), name="console") as asker:
        with bar("Asking", len(seen.letters)) as step:
            for start in range(0, len(seen.letters), _ASKED_AT_ONCE):
                part = seen.letters[start : start + _ASKED_AT_ONCE]
                asked = (_ask(asker, letter, why_left(letter, user=user, force=run.force)) for letter in part)
                foreseen += await asyncio.gather(*asked)
                step(len(part))
    return seen, foreseen


async def _ask(asker: Asker, letter: Letter, left: str | None) -> _Foreseen:
    if left is not None or letter.request is None:
        return _failing(letter, left)
    text = letter.text
    if text is None:
        return _failing(letter, "its body is no text")
    try:
        asked = ReplayPreview(
            request=letter.request,
            sender=letter.sender,
            body=text,
            version=1 if letter.version is None else letter.version,
        )
        answer = await asker.ask(asked)
    except ServiceError as error:
        if error.code != Code.TOO_LARGE:
            raise
        return _failing(letter, error.message)
    if not isinstance(answer, ReplayPreviewed):
        raise ServiceError(Code.INTERNAL, "the answer is no preview; report this as a bug")
    return _Foreseen(letter, answer)


def _failing(letter: Letter, why: str | None) -> _Foreseen:
    return _Foreseen(letter, ReplayPreviewed(prospect="failing", reason=why))


_COLUMNS: tuple[Column[_Foreseen], ...] = (
    Column("ID", lambda one: short(one.letter.id)),
    Column("REQUEST", lambda one: one.letter.request or one.letter.routing_key),
    Column("NETWORK", lambda one: one.letter.network, rank=1),
    Column("DEATHS", lambda one: one.letter.deaths, rank=2),
    Column("WOULD", lambda one: one.answer.prospect),
    Column("REASON", lambda one: one.answer.reason, folds=True),
)
