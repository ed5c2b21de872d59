"""The web side of the console as one ASGI application: REST under /api/v1, and the page."""

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from console.api import networks
from console.api.guards import Guards, RateLimit
from console.api.problems import Problem, handle_problems
from console.api.site import Site
from console.page import pages

PREFIX = "/api/v1"
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
    for part in (networks,):
        app.include_router(part.router, prefix=PREFIX)
    pages.mount(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return Guards(app, clients)


def _openapi(app: FastAPI) -> dict[str, object]:
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
