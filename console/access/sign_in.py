"""Browsers that signed in: a random cookie stands for a token for some hours, in memory alone."""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from console.access.identity import Identity
from console.access.tokens import Tokens

LASTS_S = 12 * 3600.0
"""How long a browser stays signed in, in seconds."""
_MOST = 10_000
ONE_TIME = Identity("one-time", "operator")
"""Whom the link stands for that `moorage up` prints: whoever started it."""


@dataclass(frozen=True)
class SignedIn:
    """One browser's session. `csrf` goes into each form that changes something."""

    identity: Identity
    until: float
    csrf: str
    of_token: bool = True

    def is_from_here(self, csrf: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(csrf.encode(), self.csrf.encode())


class SignIns:
    """Who is signed in. A restart of the console signs everybody out; a revoked token does so at once."""

    def __init__(
        self, tokens: Tokens, one_time: str | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._one_time = one_time
        self._now = now
        self._open: OrderedDict[str, SignedIn] = OrderedDict()

    def by_token(self, presented: str) -> str | None:
        """The cookie of a new session for a bearer token; None for one that opens nothing.

        Raises `not_provisioned` where the tokens' file cannot be used.
        """
        identity = self._tokens.identify(presented.strip())
        return self._begin(identity, of_token=True) if identity is not None else None

    def by_one_time(self, presented: str) -> str | None:
        """The cookie of an operator's session, the first time that the one-time token is presented."""
        if self._one_time is None or not hmac.compare_digest(presented.encode(), self._one_time.encode()):
            return None
        self._one_time = None
        return self._begin(ONE_TIME, of_token=False)

    def find(self, cookie: str) -> SignedIn | None:
        """The session of a cookie, with what its token is worth now."""
        session = self._open.get(cookie)
        if session is None:
            return None
        identity = self._tokens.current(session.identity.name) if session.of_token else session.identity
        if identity != session.identity or self._now() >= session.until:
            self.end(cookie)
            return None
        return session

    def end(self, cookie: str) -> None:
        """Sign out."""
        self._open.pop(cookie, None)

    def _begin(self, identity: Identity, *, of_token: bool) -> str:
        cookie = secrets.token_urlsafe(32)
        while len(self._open) >= _MOST:
            self._open.popitem(last=False)
        self._open[cookie] = SignedIn(
            identity, self._now() + LASTS_S, secrets.token_urlsafe(32), of_token=of_token
        )
        return cookie
