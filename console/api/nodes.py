"""/api/v1/nodes: list, fence, remove; tenants see none."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Path, Response

from console.api.parameters import After, Body, Limit, changed
from console.api.problems import responses
from console.api.site import IdempotencyKey, IdentityOf, SiteOf
from schemas.address import Reason
from schemas.fields import NodeName
from schemas.message import Done
from schemas.node import NodeFence, NodeFenced, NodeList, NodePage, NodeRemove

router = APIRouter(tags=["nodes"])

_Node = Annotated[NodeName, Path(description="the node's name")]
_CHANGE = responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class Fence(Body):
    """Why a node is known to be off, and the session that the list showed: another one is not fenced."""

    session: UUID
    reason: str = Reason


@router.get("/nodes", responses=responses())
async def list_nodes(site: SiteOf, identity: IdentityOf, after: After = None, limit: Limit = 100) -> NodePage:
    """Nodes by name, with their state and how much is attached there."""
    return await site.desk.ask(identity, NodeList(after=after, limit=limit), NodePage)


@router.post("/nodes/{node}/fence", responses=_CHANGE)
async def fence_node(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    node: _Node,
    wanted: Fence,
    key: IdempotencyKey = None,
) -> NodeFenced:
    """Declare that a node is off: its pods' addresses may be had elsewhere. Nothing checks that it is."""
    request = NodeFence(request_id=key or str(uuid4()), node=node, **wanted.model_dump())
    return await changed(site, identity, response, key, request, NodeFenced)


@router.delete("/nodes/{node}", status_code=204, responses=_CHANGE)
async def remove_node(
    site: SiteOf, identity: IdentityOf, response: Response, node: _Node, key: IdempotencyKey = None
) -> None:
    """Forget a node that is gone for good. 409 while it is ready or has addresses."""
    request = NodeRemove(request_id=key or str(uuid4()), node=node)
    await changed(site, identity, response, key, request, Done)
