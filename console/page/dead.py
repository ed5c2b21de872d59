"""Dead letters: a list, one whole, what a replay would do, replay and discard."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import Letter
from console.access import permits
from console.dead_tables import age, letter_facts
from console.page.browser import VisitOf
from console.page.forms import Fields, fields
from schemas.errors import Code, ServiceError

router = APIRouter()
_SHOWN = 100
_TRIED = 100


@router.get("/dead")
async def list_letters(
    visit: VisitOf,
    request: Annotated[str, Query()] = "",
    network: Annotated[str, Query()] = "",
    reason: Annotated[str, Query()] = "",
) -> Response:
    """The letters that died first, and how many there are of which kind."""
    values = {"request": request.strip(), "network": network.strip(), "reason": reason.strip()}
    chosen = Choice(**{name: value for name, value in values.items() if value})  # type: ignore[arg-type]
    seen = await visit.site.letters.seen(visit.identity, chosen, _SHOWN)
    return visit.page("dead.html", seen=seen, values=values, age=age, outcome=None, foreseen=None)


@router.get("/dead/{letter_id}")
async def show_letter(visit: VisitOf, letter_id: str) -> Response:
    """One letter: its story and its body."""
    letter = await visit.site.letters.one(visit.identity, letter_id)
    return visit.page(
        "letter.html", letter=letter, facts=letter_facts(letter), body=_body(letter), foreseen=None
    )


def _body(letter: Letter) -> str:
    document = letter.document
    if document is not None:
        return json.dumps(document, indent=2, ensure_ascii=False)
    return letter.text if letter.text is not None else letter.body.hex(" ")


@router.post("/dead/{letter_id}/try")
async def try_letter(visit: VisitOf, letter_id: str) -> Response:
    """What a replay of one letter would do."""
    letter = await visit.site.letters.one(visit.identity, letter_id)
    found = await visit.site.letters.foreseen(visit.identity, Choice(ids=(letter.id,)), 1, force=True)
    return visit.page(
        "letter.html",
        letter=letter,
        facts=letter_facts(letter),
        body=_body(letter),
        foreseen=found[0] if found else None,
    )


@router.post("/dead")
async def act(visit: VisitOf) -> Response:
    """Try, replay or discard the letters that were ticked, or all that the filter shows."""
    permits.check_operator(visit.identity, "changing dead letters")
    form = await visit.request.form()
    ticked = tuple(value for value in form.getlist("id") if isinstance(value, str))
    given = await fields(visit.request)
    choice = _meant(given, ticked)
    about: dict[str, Any] = {"outcome": None, "foreseen": None}
    what, reason, force = given.text("do"), given.text("reason") or None, given.flag("force")
    letters = visit.site.letters
    if what == "try":
        about["foreseen"] = await letters.foreseen(visit.identity, choice, _TRIED, force=force)
    elif what == "replay":
        about["outcome"] = ("replayed", await letters.replayed(visit.identity, choice, reason, force=force))
    elif what == "discard":
        if given.text("confirm") != "discard":
            raise ServiceError(
                Code.INVALID_REQUEST, "nothing was changed: type discard to have letters never carried out"
            )
        about["outcome"] = ("discarded", await letters.discarded(visit.identity, choice, reason))
    else:
        raise ServiceError(Code.INVALID_REQUEST, "choose what to do: try, replay or discard")
    values = {name: given.text(name) for name in ("request", "network")} | {"reason": given.text("filter")}
    seen = await letters.seen(visit.identity, Choice(), _SHOWN)
    return visit.page("dead.html", seen=seen, values=values, age=age, **about)


def _meant(form: Fields, ticked: tuple[str, ...]) -> Choice:
    """Raises `invalid_request` where nothing was chosen."""
    if form.flag("all"):
        filters = {
            "request": form.text("request"),
            "network": form.text("network"),
            "reason": form.text("filter"),
        }
        return Choice(**{name: value for name, value in filters.items() if value})  # type: ignore[arg-type]
    if not ticked:
        raise ServiceError(Code.INVALID_REQUEST, "tick the letters that are meant, or `all that are shown`")
    return Choice(ids=ticked)
