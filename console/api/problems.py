"""Failures as HTTP tells them: a status and a body of application/problem+json (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from schemas.errors import Code, ServiceError
from schemas.validation import explain

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = "2"

log = structlog.get_logger("moorage.console")

_STATUS: Mapping[str, HTTPStatus] = {
    Code.INVALID_REQUEST: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.RANGE_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.POOL_UNSUITABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.NETWORK_UNSUITABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.SENDER_FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.OWNER_FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.MAC_FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.NETWORK_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.POOL_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.ADDRESS_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.NODE_UNKNOWN: HTTPStatus.NOT_FOUND,
    "too_many_requests": HTTPStatus.TOO_MANY_REQUESTS,
    "request_unknown": HTTPStatus.NOT_FOUND,
    "letter_unknown": HTTPStatus.NOT_FOUND,
    Code.PAUSED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.NOT_PROVISIONED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    Code.INTERNAL: HTTPStatus.BAD_GATEWAY,
}
"""Everything else that the allocator refuses stands against the state things are in: 409."""


class Problem(BaseModel):
    """A failure. `code` is stable; `detail` says what to do; further members are named by the code.

    `holders` are those who have the addresses in the way, `nodes` what each node said, `retry` tells that the
    same request may succeed later, `request_id` how to ask for the same change again without doing it twice.
    """

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:moorage:error:pool_in_use"])
    title: str
    status: int
    detail: str
    code: str
    retryable: bool = False


def status_of(code: str) -> HTTPStatus:
    """The HTTP status of an error's code."""
    return _STATUS.get(code, HTTPStatus.CONFLICT)


def problem(error: ServiceError, status: HTTPStatus | None = None) -> JSONResponse:
    """An error as the answer to an HTTP request."""
    found = status or status_of(error.code)
    named = {key: value for key, value in error.fields.items() if key not in Problem.model_fields}
    body = Problem(
        type=f"urn:moorage:error:{error.code}",
        title=found.phrase,
        status=found.value,
        detail=error.message,
        code=error.code,
        retryable=error.retryable,
        **named,
    )
    headers = {"Cache-Control": "no-store"}
    if found in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = _RETRY_AFTER_S
    if found is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="moorage"'
    return JSONResponse(
        body.model_dump(mode="json", fallback=str), found.value, headers, media_type=MEDIA_TYPE
    )


def handle_problems(app: FastAPI) -> None:
    """Have every failure of the API told as a problem, its own and those of the framework."""

    @app.exception_handler(ServiceError)
    async def _refused(_: Request, error: ServiceError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def _unreadable(_: Request, error: RequestValidationError) -> Response:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()[:5]
        ]
        return problem(ServiceError(Code.INVALID_REQUEST, "; ".join(lines)))

    @app.exception_handler(ValidationError)
    async def _invalid(_: Request, error: ValidationError) -> Response:
        return problem(ServiceError(Code.INVALID_REQUEST, explain(error)))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        answer = problem(
            ServiceError(status.phrase.lower().replace(" ", "_"), str(error.detail), retryable=False), status
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def _failed(request: Request, error: Exception) -> Response:
        log.exception("a request failed", path=request.url.path, exc_info=error)
        return problem(
            ServiceError(Code.INTERNAL, "this failed, and the console's log says where: report it as a bug"),
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of failures: those named, and those that every route has."""
    everywhere = (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    )
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status.value: {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*everywhere, *statuses})
    }
