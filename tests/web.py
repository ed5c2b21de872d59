"""The console's web side over an allocator that answers from a table, and browsers and programs that ask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from console.access.identity import Role
from console.access.sign_in import SignIns
from console.access.tokens import Tokens
from console.api.application import application
from console.api.desk import Desk
from console.api.guards import RateLimit
from console.api.happenings import Happenings
from console.api.jobs import Jobs
from console.api.letters import Letters
from console.api.site import Site
from schemas.message import Request
from tests.console_fakes import URL, Answers, FakeAllocator

ORIGIN = "http://console.test"
ONE_TIME = "o" * 43


class Web:
    """A site with tokens of its own, and what was asked of its allocator."""

    def __init__(
        self,
        folder: Path,
        answers: Mapping[type[Request], Answers] | None = None,
        clients: RateLimit | None = None,
    ) -> None:
        self.allocator = FakeAllocator(dict(answers or {}))
        self.tokens = Tokens(folder / "tokens.json")
        desk = Desk(self.allocator)
        self.site = Site(
            desk=desk,
            tokens=self.tokens,
            sign_ins=SignIns(self.tokens, ONE_TIME),
            happenings=Happenings(),
            jobs=Jobs(),
            letters=Letters(URL, desk),
            failures=RateLimit(1000, 1000),
        )
        self.app = application(self.site, clients or RateLimit(1e6, 1_000_000))

    def token(self, name: str = "ops", role: Role = "operator", *namespaces: str) -> str:
        """A new token."""
        return self.tokens.create(name, role, namespaces)

    def program(self, token: str | None = None) -> httpx.AsyncClient:
        """A program that asks with a token: an operator's if none is given, none at all for an empty one."""
        if token is None:
            token = self.token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client(headers=headers)

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Somebody who asks."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("192.0.2.9", 4711))
        return httpx.AsyncClient(transport=transport, base_url=ORIGIN, **options)
