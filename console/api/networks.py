"""/api/v1/networks: list, show, create, update, delete; changes that take their time are jobs."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Response
from pydantic import Field

from console.access.identity import Identity
from console.api.jobs import ACCEPTED, Job, accepted
from console.api.parameters import After, Body, Limit, Version
from console.api.parameters import Network as _Name
from console.api.problems import responses
from console.api.site import IdempotencyKey, IdentityOf, Site, SiteOf
from schemas.errors import Code, ServiceError
from schemas.fields import NetworkName, OwnerPattern
from schemas.network import (
    MTU,
    NetworkCreate,
    NetworkDefinition,
    NetworkDelete,
    NetworkList,
    NetworkPage,
    NetworkShow,
    NetworkUpdate,
    NetworkView,
    Subnet,
)

router = APIRouter(tags=["networks"])

NetworkChanges = NetworkCreate | NetworkUpdate | NetworkDelete

_LONGER_S = 25.0
"""How much later than its deadline a change is answered at most, in seconds: a failed one is taken back."""

_CHANGE = responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class NewNetwork(Body, NetworkDefinition):
    """A network to be created."""

    network: NetworkName
    keep_going: bool = False
    deadline_s: float = Field(default=30, ge=1, le=600)


class NetworkChange(Body):
    """What to change; what is left out stays as it is."""

    expected_version: int | None = Field(default=None, ge=0, le=(1 << 63) - 1)
    add_subnets: tuple[Subnet, ...] = Field(default=(), max_length=16)
    owners: tuple[OwnerPattern, ...] | None = Field(default=None, max_length=256)
    mtu: Annotated[int, MTU] | None = None
    deadline_s: float = Field(default=30, ge=1, le=600)


@router.get("/networks", responses=responses())
async def list_networks(
    site: SiteOf, identity: IdentityOf, after: After = None, limit: Limit = 100
) -> NetworkPage:
    """Networks by name. A page may be short and yet not be the last: `next` tells."""
    return await site.desk.ask(identity, NetworkList(after=after, limit=limit), NetworkPage)


@router.get("/networks/{network}", responses=responses(HTTPStatus.NOT_FOUND))
async def show_network(site: SiteOf, identity: IdentityOf, network: _Name) -> NetworkView:
    """One network, with its state node by node where you may see nodes."""
    return await site.desk.ask(identity, NetworkShow(network=network), NetworkView)


@router.post("/networks", status_code=201, response_model=NetworkView, responses=_CHANGE | ACCEPTED)
async def create_network(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    wanted: NewNetwork,
    key: IdempotencyKey = None,
) -> Any:
    """Create a network on every ready node; operators alone. 201 with each node's result, or 202."""
    fields = wanted.model_dump(mode="python")
    request = NetworkCreate(request_id=key or str(uuid4()), **fields)
    return await _changed(site, identity, response, request, 201)


@router.patch("/networks/{network}", response_model=NetworkView, responses=_CHANGE | ACCEPTED)
async def update_network(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: _Name,
    wanted: NetworkChange,
    key: IdempotencyKey = None,
) -> Any:
    """Add subnets, change the MTU or whom it allows; operators alone."""
    request = NetworkUpdate(request_id=key or str(uuid4()), network=network, **wanted.model_dump())
    return await _changed(site, identity, response, request, 200)


@router.delete("/networks/{network}", response_model=NetworkView, responses=_CHANGE | ACCEPTED)
async def delete_network(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: _Name,
    force: Annotated[bool, Query(description="release addresses that are held")] = False,
    reason: Annotated[str | None, Query(min_length=1, max_length=500)] = None,
    expected_version: Version = None,
    key: IdempotencyKey = None,
) -> Any:
    """Take a network away from every node; operators alone. 409 names the holders of its addresses."""
    request = NetworkDelete(
        request_id=key or str(uuid4()),
        network=network,
        force=force,
        reason=reason,
        expected_version=expected_version,
    )
    return await _changed(site, identity, response, request, 200)


@router.get("/jobs/{request_id}", responses=responses(HTTPStatus.NOT_FOUND), tags=["jobs"])
async def show_job(site: SiteOf, identity: IdentityOf, request_id: str) -> Job:
    """How far a change has come that was answered with 202."""
    return site.jobs.find(identity, request_id)


async def _changed(
    site: Site,
    identity: Identity,
    response: Response,
    request: NetworkChanges,
    done: int,
) -> NetworkView | Response:
    async def work() -> NetworkView:
        return await change_network(site, identity, request)

    response.headers["Idempotency-Key"] = request.request_id
    found = await site.jobs.run(identity, request, work)
    if isinstance(found, NetworkView):
        response.status_code = done
        return found
    return accepted(site.jobs.find(identity, request.request_id))


async def change_network(site: Site, identity: Identity, request: NetworkChanges) -> NetworkView:
    """The answer of a change that nodes carry out. Raises ServiceError."""
    try:
        return await site.desk.ask(identity, request, NetworkView)
    except ServiceError as error:
        if error.code != Code.TIMEOUT:
            raise
    # It was sent and is being worked on: asked again, we join those who wait for its answer.
    longer_s = request.deadline_s + _LONGER_S
    return await site.desk.ask(identity, request, NetworkView, timeout_s=longer_s)
