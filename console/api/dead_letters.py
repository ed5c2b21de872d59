"""/api/v1/dead-letters: look, try without effect, replay, discard; a change that takes long is a job."""

from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import uuid4

from fastapi import APIRouter, Query, Response
from pydantic import Field, model_validator

from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import Letter
from console.access import permits
from console.access.identity import Identity
from console.api.jobs import ACCEPTED, accepted
from console.api.letters import Outcome
from console.api.parameters import Body, Limit
from console.api.problems import responses
from console.api.site import IdempotencyKey, IdentityOf, Site, SiteOf
from schemas.dead import ReplayPreviewed
from schemas.fields import RequestId, Time
from schemas.message import Administrative, Done, Message

router = APIRouter(tags=["dead letters"])

_Text = Annotated[str | None, Field(max_length=255)]
_Id = Annotated[str, Field(min_length=6, max_length=255)]
_CHANGE = responses(HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_PREVIEWED = 500


class LetterView(Message):
    """A request that nobody could serve. `body`, or `body_base64` where it is no text."""

    id: str
    request: str | None
    network: str | None
    node: str | None
    sender: str
    code: str
    reason: str
    first_death: Time
    last_death: Time
    deaths: int
    routing_key: str
    version: int | None = None
    replay: str | None = None
    properties: dict[str, str]
    body: str | None = None
    body_base64: str | None = None


class Kind(Message):
    """How many letters there are of one request and code."""

    request: str
    code: str
    letters: int


class LetterList(Message):
    """The letters that died first, and how many there are: `looked` of `count` were looked at."""

    count: int
    looked: int
    matching: int
    kinds: tuple[Kind, ...]
    letters: tuple[LetterView, ...]


class Meant(Body):
    """Which letters: all that fit what is given, or `all`. `force` replays one that died often, too."""

    ids: tuple[_Id, ...] = Field(default=(), max_length=500)
    request: _Text = None
    network: _Text = None
    node: _Text = None
    sender: _Text = None
    code: _Text = None
    text: _Text = Field(default=None, description="a part of the reason they died of")
    run: _Text = Field(default=None, description="those that came back from this replay")
    before: Time | None = Field(default=None, description="first dead before this time")
    since: Time | None = Field(default=None, description="first dead at this time or later")
    all: bool = False
    force: bool = False
    reason: str | None = Field(default=None, min_length=1, max_length=500, description="kept in history")

    @model_validator(mode="after")
    def _meant(self) -> Self:
        if self.all == bool(self.choice.told):
            raise ValueError(
                "say which letters are meant: ids, or filters such as network and code, or else all"
            )
        return self

    @property
    def choice(self) -> Choice:
        """The letters that are meant."""
        return Choice(
            ids=self.ids,
            request=self.request,
            network=self.network,
            node=self.node,
            sender=self.sender,
            code=self.code,
            reason=self.text,
            before=self.before,
            since=self.since,
            replay=self.run,
        )


class LeftLetter(Message):
    """A letter that was left where it is, and why."""

    id: str
    why: str


class LettersChanged(Message):
    """How many letters were `done` and how many left, and why. `run` names it in history."""

    run: str
    done: int
    left: int
    first_left: tuple[LeftLetter, ...]


class PreviewedLetter(ReplayPreviewed):
    """What a replay of one letter would come to."""

    id: str
    request: str | None = None


class Preview(Message):
    """What a replay would come to, of the letters that died first."""

    letters: tuple[PreviewedLetter, ...]


class _Change(Administrative):
    """A replay or discard as it is remembered: the same one under the same key is done once."""

    NAME: ClassVar[str] = "dead letters"
    ANSWER: ClassVar[type[Message]] = Done

    request_id: RequestId
    act: Literal["replay", "discard"]
    meant: Meant


@router.get("/dead-letters", responses=responses())
async def list_dead_letters(  # noqa: PLR0913, PLR0917  one argument for each filter
    site: SiteOf,
    identity: IdentityOf,
    request: Annotated[str | None, Query(max_length=64, description="such as address.release")] = None,
    network: Annotated[str | None, Query(max_length=255)] = None,
    node: Annotated[str | None, Query(max_length=255)] = None,
    sender: Annotated[str | None, Query(max_length=255, description="such as node.worker-1")] = None,
    code: Annotated[str | None, Query(max_length=64)] = None,
    text: Annotated[str | None, Query(max_length=255, description="a part of the reason")] = None,
    limit: Limit = 50,
) -> LetterList:
    """The letters that died first; tenants see none. It looks for 5 s at most."""
    choice = Choice(request=request, network=network, node=node, sender=sender, code=code, reason=text)
    seen = await site.letters.seen(identity, choice, limit)
    return LetterList(
        count=seen.count,
        looked=seen.looked,
        matching=seen.matching,
        kinds=tuple(Kind(request=r, code=c, letters=n) for (r, c), n in seen.kinds.most_common()),
        letters=tuple(_view(letter) for letter in seen.letters),
    )


@router.get("/dead-letters/{letter_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def show_dead_letter(site: SiteOf, identity: IdentityOf, letter_id: str) -> LetterView:
    """One letter, by its id or the first characters of it."""
    return _view(await site.letters.one(identity, letter_id))


@router.post("/dead-letters/preview", responses=_CHANGE)
async def preview_replay(site: SiteOf, identity: IdentityOf, wanted: Meant) -> Preview:
    """What a replay would come to; nothing is changed. Operators alone."""
    found = await site.letters.foreseen(identity, wanted.choice, _PREVIEWED, force=wanted.force)
    return Preview(
        letters=tuple(
            PreviewedLetter(id=one.letter.id, request=one.letter.request, **one.answer.model_dump())
            for one in found
        )
    )


@router.post("/dead-letters/replay", response_model=LettersChanged, responses=_CHANGE | ACCEPTED)
async def replay_dead_letters(
    site: SiteOf, identity: IdentityOf, response: Response, wanted: Meant, key: IdempotencyKey = None
) -> Any:
    """Send letters to the allocator once more: 200, or 202 with a place to watch. Operators alone."""
    permits.check_operator(identity, "replaying dead letters")
    return await _changed(site, identity, response, _change("replay", wanted, key))


@router.post("/dead-letters/discard", response_model=LettersChanged, responses=_CHANGE | ACCEPTED)
async def discard_dead_letters(
    site: SiteOf, identity: IdentityOf, response: Response, wanted: Meant, key: IdempotencyKey = None
) -> Any:
    """Take letters out for good: 200, or 202 with a place to watch. Operators alone."""
    permits.check_operator(identity, "discarding dead letters")
    return await _changed(site, identity, response, _change("discard", wanted, key))


def _change(act: Literal["replay", "discard"], wanted: Meant, key: str | None) -> _Change:
    return _Change(request_id=key or str(uuid4()), act=act, meant=wanted)


async def _changed(site: Site, identity: Identity, response: Response, change: _Change) -> Message | Response:
    told, meant = Outcome(uuid4().hex), change.meant

    async def work() -> Message:
        if change.act == "replay":
            await site.letters.replayed(identity, meant.choice, meant.reason, force=meant.force, told=told)
        else:
            await site.letters.discarded(identity, meant.choice, meant.reason, told)
        return _outcome(told)

    def progress() -> dict[str, Any]:
        return _outcome(told).model_dump(mode="json")

    response.headers["Idempotency-Key"] = change.request_id
    found = await site.jobs.run(identity, change, work, progress=progress)
    return found if found is not None else accepted(site.jobs.find(identity, change.request_id))


def _outcome(told: Outcome) -> LettersChanged:
    left = tuple(LeftLetter(id=one.letter.id, why=one.left or "") for one in told.first_left)
    return LettersChanged(run=told.run, done=told.done, left=told.left, first_left=left)


def _view(letter: Letter) -> LetterView:
    return LetterView.model_validate(letter.as_json())
