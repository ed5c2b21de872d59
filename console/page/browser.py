"""One browser's request: who signed in, what is asked for it, and the page that answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from pydantic import ValidationError

from console.access.identity import Identity
from console.access.sign_in import SignedIn
from console.api.guards import note_identity
from console.api.problems import status_of
from console.api.site import Site
from console.page import grid, words
from schemas.errors import Code, ServiceError
from schemas.message import Message
from schemas.message import Request as Asked
from schemas.validation import explain

COOKIE = "moorage"
Expected = TypeVar("Expected", bound=Message)

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(words.FILTERS)
_TEMPLATES.globals.update(words.GLOBALS, colour_of=grid.colour_of)
_TEMPLATES.globals["fresh_id"] = lambda: str(uuid4())


class SignedOut(Exception):
    """Nobody is signed in: first the sign-in page, then this."""


class Forged(Exception):
    """A form that did not come from a page of ours."""


@dataclass(frozen=True)
class Visit:
    """A request of a browser that is signed in."""

    request: Request
    site: Site
    signed_in: SignedIn
    after: str = ""
    """What had happened last when it began: from there on the page listens, and misses nothing."""

    @property
    def identity(self) -> Identity:
        """Who it is."""
        return self.signed_in.identity

    @property
    def operates(self) -> bool:
        """Whether it may do all."""
        return self.identity.role == "operator"

    async def ask(
        self, request: Asked, answer: type[Expected], *, timeout_s: float | None = None
    ) -> Expected:
        """The answer, as this identity may see it. Raises ServiceError."""
        return await self.site.desk.ask(self.identity, request, answer, timeout_s=timeout_s)

    def page(self, template: str, status: int = HTTPStatus.OK, **about: Any) -> HTMLResponse:
        """A page of ours."""
        return rendered(self.request, template, status, visit=self, csrf=self.signed_in.csrf, **about)


def site_of(request: Request) -> Site:
    """The site that the application was made with."""
    found: Site = request.app.state.site
    return found


async def visit(request: Request) -> Visit:
    """Who visits. Raises `SignedOut`; `Forged` for a change that no page of ours asked for."""
    site = site_of(request)
    signed_in = site.sign_ins.find(request.cookies.get(COOKIE, ""))
    if signed_in is None:
        raise SignedOut
    note_identity(request.scope, signed_in.identity.name)
    if request.method != "GET":
        await check_origin(request)
        form = await request.form()
        given = request.headers.get("X-CSRF") or form.get("csrf")
        if not isinstance(given, str) or not signed_in.is_from_here(given):
            raise Forged
    return Visit(request, site, signed_in, site.happenings.latest)


VisitOf = Annotated[Visit, Depends(visit)]


async def check_origin(request: Request) -> None:
    """Raise `Forged` where the browser says that the form is another site's."""
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("Host", "")
    if foreign or request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Forged


def rendered(request: Request, template: str, status: int = HTTPStatus.OK, **about: Any) -> HTMLResponse:
    """A template with what it is about. What comes of data is escaped."""
    given: Mapping[str, Any] = {
        "visit": None,
        "csrf": "",
        "path": request.url.path,
        "here": str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
        **about,
    }
    return HTMLResponse(_TEMPLATES.get_template(template).render(given), status)


def failed(
    request: Request, error: ServiceError, who: Visit | None, status: HTTPStatus | None = None
) -> Response:
    """A page that says what failed and what to do; where it may go by itself, it looks again by itself."""
    passing = error.code in {Code.UNAVAILABLE, Code.TIMEOUT, Code.PAUSED, Code.NOT_PROVISIONED}
    about = {"error": error, "again": passing and request.method == "GET"}
    status = status or status_of(error.code)
    if who is not None:
        return who.page("failed.html", status, **about)
    return rendered(request, "failed.html", status, **about)


def redirect(request: Request, path: str) -> Response:
    """Go there, by whichever way the request came."""
    if request.headers.get("HX-Request") == "true":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": path})
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def refusal(error: ServiceError | ValidationError) -> ServiceError:
    """What a form says of its own values, as a refusal like the allocator's."""
    if isinstance(error, ServiceError):
        return error
    return ServiceError(Code.INVALID_REQUEST, explain(error))
