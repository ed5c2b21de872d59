"""Dead letters over HTTP: looked at, tried without effect, replayed and discarded, for whoever may.

A look holds letters for a moment in which nobody else sees them: so there is one at a time here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from broker.dead_letters.acting import Done, Run, discard, replay, why_left
from broker.dead_letters.box import Box, letter_box
from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import Letter
from broker.dead_letters.post import Post, post
from broker.login import Where
from console.access import permits
from console.access.identity import Identity
from console.api.desk import Desk
from console.dead_looking import Seen, look
from schemas.dead import ReplayPreview, ReplayPreviewed
from schemas.errors import Code, ServiceError

LOOK_S = 5.0
"""How long a list looks for at most, in seconds; it tells how many it has not looked at."""
_PREVIEWED_AT_ONCE = 16
_TOLD = 100

Act = Callable[[Box, Post, Run], AsyncIterator[Sequence[Done]]]


class OpenBox(Protocol):
    """How the letters are come by: `broker.dead_letters.box.letter_box`, or a stand-in."""

    def __call__(self, url: Where, *, timeout_s: float) -> AbstractAsyncContextManager[Box]:
        """The letters, for as long as the context lasts."""
        ...


class OpenPost(Protocol):
    """How they are sent: `broker.dead_letters.post.post`, or a stand-in."""

    def __call__(self, url: Where, *, timeout_s: float) -> AbstractAsyncContextManager[Post]:
        """A post, for as long as the context lasts."""
        ...


@dataclass(frozen=True)
class Foreseen:
    """What a replay of one letter would come to."""

    letter: Letter
    answer: ReplayPreviewed


@dataclass
class Outcome:
    """What became of the letters of one replay or discard."""

    run: str
    done: int = 0
    left: int = 0
    first_left: list[Done] = field(default_factory=list)

    def add(self, batch: Sequence[Done]) -> None:
        """Count what became of some."""
        for one in batch:
            if one.left is None:
                self.done += 1
            else:
                self.left += 1
                if len(self.first_left) < _TOLD:
                    self.first_left.append(one)


class Letters:
    """The dead letters, as an identity may see and change them. Raises ServiceError."""

    def __init__(
        self,
        url: Where,
        desk: Desk,
        *,
        open_box: OpenBox = letter_box,
        open_post: OpenPost = post,
        timeout_s: float = 10.0,
    ) -> None:
        self._url, self._desk = url, desk
        self._open_box, self._open_post = open_box, open_post
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()

    async def seen(self, identity: Identity, choice: Choice, keep: int) -> Seen:
        """The `keep` letters that died first of those chosen, and how many there are of which kind."""
        permits.check_sees_all(identity, "dead letters")
        async with self._turn, self._open_box(self._url, timeout_s=self._timeout_s) as box:
            return await look(box, choice, keep=keep, within_s=LOOK_S)

    async def one(self, identity: Identity, letter_id: str) -> Letter:
        """One letter. Raises `letter_unknown`."""
        seen = await self.seen(identity, Choice(ids=(letter_id,)), keep=2)
        exact = [letter for letter in seen.letters if letter.id == letter_id] or seen.letters
        if len(exact) != 1:
            raise ServiceError(
                "letter_unknown",
                f"there is no dead letter {letter_id} (any more): it was replayed or discarded; list them",
            )
        return exact[0]

    async def foreseen(self, identity: Identity, choice: Choice, most: int, *, force: bool) -> list[Foreseen]:
        """What a replay of the chosen letters would come to; nothing is changed."""
        permits.check_operator(identity, "trying a replay")
        async with self._turn, self._open_box(self._url, timeout_s=self._timeout_s) as box:
            seen, user = await look(box, choice, keep=most, within_s=LOOK_S), box.user
        found: list[Foreseen] = []
        for start in range(0, len(seen.letters), _PREVIEWED_AT_ONCE):
            part = seen.letters[start : start + _PREVIEWED_AT_ONCE]
            asked = (self._preview(identity, each, why_left(each, user=user, force=force)) for each in part)
            found += await asyncio.gather(*asked)
        return found

    async def _preview(self, identity: Identity, letter: Letter, left: str | None) -> Foreseen:
        if left is not None or letter.request is None or letter.text is None:
            return Foreseen(letter, _failing(left or "its body is no text"))
        try:
            asked = ReplayPreview(
                request=letter.request,
                sender=letter.sender,
                body=letter.text,
                version=1 if letter.version is None else letter.version,
            )
            return Foreseen(letter, await self._desk.ask(identity, asked, ReplayPreviewed))
        except ServiceError as error:
            if error.code != Code.TOO_LARGE:
                raise
            return Foreseen(letter, _failing(error.message))

    async def replayed(
        self,
        identity: Identity,
        choice: Choice,
        reason: str | None,
        *,
        force: bool,
        told: Outcome | None = None,
    ) -> Outcome:
        """Send the chosen letters to the allocator once more; `told` is filled while it goes on."""
        permits.check_operator(identity, "replaying dead letters")
        return await self._acted(replay, identity, choice, reason, force, told)

    async def discarded(
        self, identity: Identity, choice: Choice, reason: str | None, told: Outcome | None = None
    ) -> Outcome:
        """Take the chosen letters out for good; history keeps which they were."""
        permits.check_operator(identity, "discarding dead letters")
        return await self._acted(discard, identity, choice, reason, False, told)

    async def _acted(
        self,
        act: Act,
        identity: Identity,
        choice: Choice,
        reason: str | None,
        force: bool,
        told: Outcome | None,
    ) -> Outcome:
        outcome = told or Outcome(uuid4().hex)
        run = Run(outcome.run, identity.name, choice, reason, force)
        async with (
            self._turn,
            self._open_post(self._url, timeout_s=self._timeout_s) as out,
            self._open_box(self._url, timeout_s=self._timeout_s) as box,
        ):
            async for batch in act(box, out, run):
                outcome.add(batch)
        return outcome


def _failing(why: str) -> ReplayPreviewed:
    return ReplayPreviewed(prospect="failing", reason=why)
