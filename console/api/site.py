"""What the routes are given: the desk, who may come in, and what happens meanwhile."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from console.access.identity import Identity
from console.access.sign_in import SignIns
from console.access.tokens import Tokens
from console.api.desk import Desk
from console.api.gate import identity_in
from console.api.guards import RateLimit
from console.api.happenings import Happenings
from console.api.jobs import Jobs
from console.api.letters import Letters
from console.cluster.client import Cluster
from schemas.fields import RequestId


@dataclass(frozen=True)
class Site:
    """Everything that the console's web side works with; `compose` builds it."""

    desk: Desk
    tokens: Tokens
    sign_ins: SignIns
    happenings: Happenings
    jobs: Jobs
    letters: Letters
    failures: RateLimit
    """How often an address may present what opens nothing."""
    cluster: Cluster | None = None
    """Where apps are made; None where the page offers their YAML alone."""


def site(request: Request) -> Site:
    """The site that the application was made with."""
    found: Site = request.app.state.site
    return found


SiteOf = Annotated[Site, Depends(site)]
_bearer = HTTPBearer(auto_error=False, description="a token of `moorage token create`")


async def identity(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    """Who asks, by a bearer token that the gate has looked at."""
    return identity_in(request.scope)


IdentityOf = Annotated[Identity, Depends(identity)]

IdempotencyKey = Annotated[
    RequestId | None,
    Header(
        alias="Idempotency-Key",
        description="names this change: repeated with the same key it is carried out once; its `request_id`",
    ),
]
