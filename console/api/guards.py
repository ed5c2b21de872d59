"""What stands before every request: limits on its size and rate, and headers that browsers obey."""

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.api.problems import problem
from schemas.errors import Code, ServiceError
from schemas.message import MAX_BODY_BYTES

MOST_BYTES = 2 * MAX_BODY_BYTES
"""The largest body of a request. What is more than a message holds is refused with a better word later."""

_TOO_LARGE = f"the body has more than {MOST_BYTES} bytes: ask for less at once"
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with less, forms of our own come with the Origin null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_TRANSPORT = "max-age=31536000"
_WHO = "moorage.identity"
_SECRET_PATH = re.compile(r"^(/sign-in/).+")

log = structlog.get_logger("moorage.console")


@dataclass
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """At most `rate` requests a second of each key, and `burst` at once. Remembers the latest keys alone."""

    def __init__(
        self, rate: float, burst: int, *, now: Callable[[], float] = time.monotonic, most: int = 10_000
    ) -> None:
        self._rate, self._burst, self._now, self._most = rate, burst, now, most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def is_spent(self, key: str) -> bool:
        """Whether the next request would have to wait; counts none."""
        bucket = self._buckets.get(key)
        return bucket is not None and bucket.tokens + (self._now() - bucket.at) * self._rate < 1

    def wait_s(self, key: str) -> float:
        """Count one request; 0, or how many seconds later it would be taken."""
        now = self._now()
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
        self._buckets[key] = bucket
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._rate
        bucket.tokens -= 1
        return 0.0


class Guards:
    """ASGI middleware. Refuses bodies over `MOST_BYTES` and clients that ask too often."""

    def __init__(self, app: ASGIApp, clients: RateLimit) -> None:
        self._app = app
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = time.monotonic()

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note(scope, message["status"], time.monotonic() - begun)
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", _TRANSPORT)
            await send(message)

        client = scope.get("client")
        wait_s = self._clients.wait_s(client[0] if client else "")
        if wait_s:
            refusal = problem(
                ServiceError("too_many_requests", "too many requests from your address: wait a little"),
                HTTPStatus.TOO_MANY_REQUESTS,
            )
            refusal.headers["Retry-After"] = str(math.ceil(wait_s))
            await refusal(scope, receive, safely)
            return
        body = _Body(receive)
        length = MutableHeaders(scope=scope).get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > MOST_BYTES:
            await _too_large()(scope, receive, safely)
            return
        await self._app(scope, body.receive, safely)


def note_identity(scope: Scope, name: str) -> None:
    """Have the log say who asked."""
    scope[_WHO] = name


def _note(scope: Scope, status: int, took_s: float) -> None:
    """One line of the log for what changes something, is refused or fails; at debug for the rest."""
    told = {
        "method": scope["method"],
        "path": _SECRET_PATH.sub(r"\1***", scope["path"]),
        "status": int(status),
        "ms": round(took_s * 1000, 1),
        "who": scope.get(_WHO),
        "client": (scope.get("client") or ("",))[0],
    }
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request failed", **told)
    elif scope["method"] not in {"GET", "HEAD"} or status >= HTTPStatus.UNAUTHORIZED:
        log.info("request", **told)
    else:
        log.debug("request", **told)


class _Body:
    """Counts a body that did not say how long it is."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > MOST_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
        return message


def _too_large() -> ASGIApp:
    return problem(ServiceError(Code.TOO_LARGE, _TOO_LARGE), HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
