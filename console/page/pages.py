"""All routes of the page, as an application of its own under the REST API's."""

from http import HTTPStatus
from pathlib import Path

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from console.page import apps, cluster_part, dead, events, history, map_part, networks, nodes, sign_in
from console.page.browser import (
    COOKIE,
    Forged,
    SignedOut,
    Visit,
    failed,
    redirect,
    refusal,
    rendered,
    site_of,
)
from schemas.errors import Code, ServiceError

_STATIC = Path(__file__).parent / "static"

log = structlog.get_logger("moorage.console")


class _Static(StaticFiles):
    """Browsers keep these files, and ask each time whether they are still the same."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or that it is not modified."""
        found = await super().get_response(path, scope)
        found.headers["Cache-Control"] = "no-cache"
        return found


def mount(app: FastAPI) -> None:
    """Add the page to the application: whatever is not the API's."""
    page = FastAPI(openapi_url=None, redirect_slashes=False)
    page.state.site = app.state.site
    for part in (sign_in, networks, map_part, apps, cluster_part, history, nodes, dead, events):
        page.include_router(part.router)
    page.mount("/static", _Static(directory=_STATIC), name="static")
    page.add_api_route("/", _front, include_in_schema=False)
    _handle_failures(page)
    app.mount("/", page)


async def _front() -> Response:
    return RedirectResponse("/networks", 303)


def _who(request: Request) -> Visit | None:
    site = site_of(request)
    signed_in = site.sign_ins.find(request.cookies.get(COOKIE, ""))
    return Visit(request, site, signed_in) if signed_in is not None else None


def _handle_failures(page: FastAPI) -> None:
    @page.exception_handler(SignedOut)
    async def _signed_out(request: Request, _: SignedOut) -> Response:
        return redirect(request, "/sign-in")

    @page.exception_handler(Forged)
    async def _forged(request: Request, _: Forged) -> Response:
        error = ServiceError(
            Code.SENDER_FORBIDDEN,
            "this form is not one of this session, so nothing was done: load the page again, then send it",
        )
        return failed(request, error, _who(request))

    @page.exception_handler(ServiceError)
    async def _refused(request: Request, error: ServiceError) -> Response:
        return failed(request, error, _who(request))

    @page.exception_handler(ValidationError)
    async def _invalid(request: Request, error: ValidationError) -> Response:
        return failed(request, refusal(error), _who(request))

    @page.exception_handler(RequestValidationError)
    async def _unreadable(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()[:5])
        return failed(request, ServiceError(Code.INVALID_REQUEST, said), _who(request))

    @page.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        text = "there is no such page" if error.status_code == 404 else str(error.detail)
        about = {"error": ServiceError("http", text), "again": False}
        who = _who(request)
        if who is not None:
            return who.page("failed.html", error.status_code, **about)
        return rendered(request, "failed.html", error.status_code, **about)

    @page.exception_handler(Exception)
    async def _broken(request: Request, error: Exception) -> Response:
        log.exception("a page failed", path=request.url.path, exc_info=error)
        said = ServiceError(
            Code.INTERNAL, "this failed, and the console's log says where: report it as a bug"
        )
        return failed(request, said, _who(request), HTTPStatus.INTERNAL_SERVER_ERROR)
