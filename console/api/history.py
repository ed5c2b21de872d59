"""/api/v1/networks/NETWORK/history: who held which address when, and what else happened."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query

from console.api.parameters import After, Limit
from console.api.problems import responses
from console.api.site import IdentityOf, SiteOf
from schemas.fields import Address, ContainerId, HistoryName, NodeName, Owner, Time
from schemas.history import HistoryList, HistoryPage

router = APIRouter(tags=["history"])


@router.get("/networks/{network}/history", responses=responses(HTTPStatus.NOT_FOUND))
async def list_history(  # noqa: PLR0913, PLR0917  one argument for each filter
    site: SiteOf,
    identity: IdentityOf,
    network: Annotated[HistoryName, Path(description="the network, or `_system` for nodes and dead letters")],
    address: Annotated[Address | None, Query()] = None,
    owner: Annotated[Owner | None, Query()] = None,
    node: Annotated[NodeName | None, Query()] = None,
    attachment_id: Annotated[UUID | None, Query()] = None,
    container_id: Annotated[ContainerId | None, Query()] = None,
    since: Annotated[Time | None, Query(description="not before this time")] = None,
    until: Annotated[Time | None, Query(description="before this time")] = None,
    newest_first: Annotated[bool, Query()] = False,
    after: After = None,
    limit: Limit = 100,
) -> HistoryPage:
    """Rows of history; to a tenant those of its owners, and of its pools that something happened.

    A page may be short and yet not be the last: `next` tells.
    """
    request = HistoryList(
        network=network,
        address=address,
        owner=owner,
        node=node,
        attachment_id=attachment_id,
        container_id=container_id,
        since=since,
        until=until,
        newest_first=newest_first,
        after=after,
        limit=limit,
    )
    return await site.desk.ask(identity, request, HistoryPage)
