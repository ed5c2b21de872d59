"""Nodes: what each said last, and a person's statement that one is off."""

from uuid import uuid4

from fastapi import APIRouter, Response

from console.access import permits
from console.page.browser import Visit, VisitOf, redirect
from console.page.forms import fields
from schemas.errors import Code, ServiceError
from schemas.message import Done
from schemas.node import NodeFence, NodeFenced, NodeList, NodePage, NodeRemove, NodeView

router = APIRouter()
_PAGE = 200


@router.get("/nodes")
async def list_nodes(visit: VisitOf, after: str | None = None, fenced: str | None = None) -> Response:
    """All nodes by name."""
    permits.check_sees_all(visit.identity, "the nodes")
    page = await visit.ask(NodeList(after=after, limit=_PAGE), NodePage)
    return visit.page("nodes.html", page=page, fenced=fenced)


@router.get("/nodes/{node}")
async def show_node(visit: VisitOf, node: str) -> Response:
    """One node, and what fencing it would mean."""
    permits.check_sees_all(visit.identity, "the nodes")
    return visit.page("node.html", node=await _present(visit, node))


async def _present(visit: Visit, node: str) -> NodeView:
    """The node as it is listed now. Raises `node_unknown`."""
    after: str | None = None
    while True:
        page = await visit.ask(NodeList(after=after, limit=_PAGE), NodePage)
        for view in page.nodes:
            if view.node == node:
                return view
        if page.next is None or page.next == after:
            raise ServiceError(Code.NODE_UNKNOWN, f"no node {node} ever reported", node=node)
        after = page.next


@router.post("/nodes/{node}/fence")
async def fence(visit: VisitOf, node: str) -> Response:
    """Declare a node off: the one life of it that the page showed."""
    form = await fields(visit.request)
    _check_typed(form.text("confirm"), node, "fence")
    request = NodeFence.model_validate(
        {
            "request_id": form.text("request_id") or str(uuid4()),
            "node": node,
            "session": form.text("session"),
            "reason": form.text("reason"),
        }
    )
    answer = await visit.ask(request, NodeFenced)
    if not answer.fenced:
        raise ServiceError(
            Code.NODE_IN_USE,
            f"node {node} came back since this page was loaded, under a new session: it was left alone",
        )
    return redirect(visit.request, f"/nodes?fenced={node}")


@router.post("/nodes/{node}/remove")
async def remove(visit: VisitOf, node: str) -> Response:
    """Forget a node that will not come back."""
    form = await fields(visit.request)
    _check_typed(form.text("confirm"), node, "remove")
    request = NodeRemove.model_validate({"request_id": form.text("request_id") or str(uuid4()), "node": node})
    await visit.ask(request, Done)
    return redirect(visit.request, "/nodes")


def _check_typed(typed: str, node: str, what: str) -> None:
    if typed != node:
        raise ServiceError(
            Code.INVALID_REQUEST, f"nothing was changed: type the node's name, {node}, to {what} it"
        )
