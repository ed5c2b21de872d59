"""Signing in with a token, by the link that was printed once, and signing out."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from console.access.sign_in import LASTS_S
from console.page.browser import COOKIE, VisitOf, check_origin, rendered, site_of

router = APIRouter()


@router.get("/sign-in")
async def ask_for_token(request: Request) -> Response:
    """The form."""
    return rendered(request, "sign_in.html", problem=None, one_time=None)


@router.post("/sign-in")
async def by_token(request: Request) -> Response:
    """A session for a token."""
    await check_origin(request)
    if wait := _too_often(request):
        return wait
    form = await request.form()
    given = form.get("token")
    cookie = site_of(request).sign_ins.by_token(given if isinstance(given, str) else "")
    return _welcome(request, cookie, "This token opens nothing: it is unknown, revoked, or its time is over.")


@router.get("/sign-in/{one_time}")
async def ask_for_one_time(request: Request, one_time: str) -> Response:
    """A button: whoever only looks at the link does not use it up."""
    return rendered(request, "sign_in.html", problem=None, one_time=one_time)


@router.post("/sign-in/{one_time}")
async def by_one_time(request: Request, one_time: str) -> Response:
    """A session for the one-time link."""
    await check_origin(request)
    if wait := _too_often(request):
        return wait
    cookie = site_of(request).sign_ins.by_one_time(one_time)
    return _welcome(
        request, cookie, "This link was used already: sign in with a token (`moorage token create`)."
    )


@router.post("/sign-out")
async def sign_out(visit: VisitOf) -> Response:
    """End the session."""
    visit.site.sign_ins.end(visit.request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE)
    return answer


def _too_often(request: Request) -> Response | None:
    """A refusal where an address tried too much that opens nothing; a try is counted in `_welcome`."""
    client = request.client.host if request.client else ""
    if site_of(request).failures.is_spent(client):
        said = "Too many tries from your address: wait a minute."
        return rendered(request, "sign_in.html", HTTPStatus.TOO_MANY_REQUESTS, problem=said, one_time=None)
    return None


def _welcome(request: Request, cookie: str | None, otherwise: str) -> Response:
    if cookie is None:
        client = request.client.host if request.client else ""
        site_of(request).failures.wait_s(client)
        return rendered(request, "sign_in.html", HTTPStatus.FORBIDDEN, problem=otherwise, one_time=None)
    answer = RedirectResponse("/networks", HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=int(LASTS_S),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return answer
