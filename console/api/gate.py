"""Nobody gets to the API without a token: looked at before anything else of a request is read."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from console.access.identity import Identity
from console.access.tokens import Tokens
from console.api.guards import RateLimit, note_identity
from console.api.problems import problem
from schemas.errors import ServiceError

_IDENTITY = "moorage.api.identity"
_SCHEME = "bearer "


def identity_in(scope: Scope) -> Identity:
    """Who asks. There is somebody wherever the gate stands before."""
    found: Identity = scope[_IDENTITY]
    return found


class Gate:
    """ASGI middleware for all below `prefix` but what is `open`. 401 for whoever has no token that is valid.

    `failures` is how often an address may try that: 429 beyond.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens, failures: RateLimit, prefix: str, opened: frozenset[str]
    ) -> None:
        self._app, self._tokens, self._failures = app, tokens, failures
        self._prefix, self._open = prefix, opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(self._prefix) or path in self._open:
            await self._app(scope, receive, send)
            return
        try:
            known = self._known(Headers(scope=scope).get("authorization", ""))
        except ServiceError as error:
            await problem(error)(scope, receive, send)
            return
        if known is None:
            await self._refusal(scope)(scope, receive, send)
            return
        scope[_IDENTITY] = known
        note_identity(scope, known.name)
        await self._app(scope, receive, send)

    def _known(self, header: str) -> Identity | None:
        if not header.lower().startswith(_SCHEME):
            return None
        return self._tokens.identify(header[len(_SCHEME) :].strip())

    def _refusal(self, scope: Scope) -> ASGIApp:
        client = scope.get("client")
        if self._failures.wait_s(client[0] if client else ""):
            said = "too many tries without a token that is valid: wait a minute"
            return problem(ServiceError("too_many_requests", said), HTTPStatus.TOO_MANY_REQUESTS)
        said = (
            "send `Authorization: Bearer TOKEN`, with a token of `moorage token create` that is still valid"
        )
        return problem(ServiceError("unauthorized", said), HTTPStatus.UNAUTHORIZED)
