"""The web side of the console as one ASGI application: REST under /api/v1, and the page."""

from functools import partial
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp

from console.api import addresses, dead_letters, events, history, networks, nodes, pools, whoami
from console.api.gate import Gate
from console.api.guards import Guards, RateLimit
from console.api.parameters import known_alone
from console.api.problems import Problem, handle_problems
from console.api.site import Site
from console.page import pages

PREFIX = "/api/v1"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]
_ABOUT = (
    "Networks, pools, addresses and their history. Every change is a request message and every answer the "
    "allocator's own; failures are problems (RFC 9457) with the stable codes of the command line."
)


def application(site: Site, clients: RateLimit) -> ASGIApp:
    """The application; `clients` limits how often one address may ask."""
    app = FastAPI(
        title="Moorage",
        version="1",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        redirect_slashes=False,
    )
    app.state.site = site
    handle_problems(app)
    for part in (networks, pools, addresses, history, nodes, dead_letters, events, whoami):
        app.include_router(part.router, prefix=PREFIX, dependencies=[Depends(known_alone)])
    app.add_route("/api/{rest:path}", partial(_elsewhere, app), _METHODS, include_in_schema=False)
    pages.mount(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    gate = Gate(app, site.tokens, site.failures, "/api/", frozenset({f"{PREFIX}/openapi.json"}))
    return Guards(gate, clients)


async def _elsewhere(app: FastAPI, request: Request) -> Response:
    """404, or 405 where there is something that is asked otherwise."""
    there = {
        method.upper()
        for path, methods in _openapi(app)["paths"].items()
        if compile_path(path)[0].match(request.url.path)
        for method in methods
    }
    if there:
        allow = ", ".join(sorted(there))
        raise HTTPException(405, f"{request.method} is not for this: use {allow}", {"Allow": allow})
    raise HTTPException(404, f"there is nothing here; {PREFIX}/openapi.json has all there is")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """As FastAPI makes it, with our problems in place of its own shape of a 422."""
    if not app.openapi_schema:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = found["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        app.openapi_schema = found
    return app.openapi_schema
