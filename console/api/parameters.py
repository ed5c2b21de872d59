"""Parameters that many routes have, and the rule that none is dropped because nobody knows it."""

from typing import Annotated, TypeVar

from fastapi import Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from console.access.identity import Identity
from console.api.site import IdentityOf, Site
from schemas.errors import Code, ServiceError
from schemas.fields import NetworkName
from schemas.message import Administrative, Message

Network = Annotated[NetworkName, Path(description="the network's name")]
Limit = Annotated[int, Query(ge=1, le=500, description="rows in one page")]
After = Annotated[str | None, Query(max_length=255, description="`next` of the page before, as it is")]
Version = Annotated[
    int | None,
    Query(ge=0, le=(1 << 63) - 1, description="refused if it has another version by now"),
]


M = TypeVar("M", bound=Message)


class Body(Message):
    """The body of a change. A mistyped optional field must not be dropped in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


async def known_alone(request: Request, _: IdentityOf) -> None:
    """Refuse what no route knows: query parameters, and fields of a body at any depth.

    Raises `invalid_request`, or pydantic's ValidationError.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = {parameter.alias for parameter in route.dependant.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        there = f"there are {', '.join(sorted(known))}" if known else "there are none here"
        raise ServiceError(Code.INVALID_REQUEST, f"{', '.join(unknown)[:200]}: unknown parameter; {there}")
    model = route.body_field.field_info.annotation if route.body_field is not None else None
    if isinstance(model, type) and issubclass(model, BaseModel):
        model.model_validate_json(await request.body(), extra="forbid")


async def changed(
    site: Site,
    identity: Identity,
    response: Response,
    key: str | None,
    request: Administrative,
    answer: type[M],
) -> M:
    """The answer of a change, once for each key: who repeats it gets the answer of the first time."""
    response.headers["Idempotency-Key"] = request.request_id

    async def work() -> Message:
        return await site.desk.ask(identity, request, answer)

    found = await work() if key is None else await site.jobs.run(identity, request, work, whole=True)
    if not isinstance(found, answer):
        raise ServiceError(Code.INTERNAL, "this key names a change of another kind; report this as a bug")
    return found
