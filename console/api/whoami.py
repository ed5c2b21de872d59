"""/api/v1/whoami: what a token is worth."""

from fastapi import APIRouter

from console.access.identity import Role
from console.api.problems import responses
from console.api.site import IdentityOf
from schemas.message import Message

router = APIRouter(tags=["access"])


class Whoami(Message):
    """Who asks: history names it as the actor. `namespaces` are a tenant's."""

    name: str
    role: Role
    namespaces: tuple[str, ...] = ()


@router.get("/whoami", responses=responses())
async def whoami(identity: IdentityOf) -> Whoami:
    """Whom the token stands for."""
    return Whoami(name=identity.name, role=identity.role, namespaces=tuple(sorted(identity.namespaces)))
