"""/api/v1/networks/NETWORK/addresses, map and tiles: look, reserve, rebind, release."""

from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from console.api.parameters import After, Body, Limit, Network, changed
from console.api.problems import responses
from console.api.site import IdempotencyKey, IdentityOf, SiteOf
from schemas.address import (
    AddressList,
    AddressMap,
    AddressMapPage,
    AddressPage,
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressShow,
    AddressView,
    AllocationState,
    OwnerAddresses,
    Reason,
)
from schemas.fields import Address, Cidr, Ifname, NodeName, Owner, PoolName, Time
from schemas.tiles import AddressTiles, TilesView

router = APIRouter(tags=["addresses"])

_Address = Annotated[Address, Path(description="an IPv4 or IPv6 address")]
_Within = Annotated[Cidr | None, Query(description="only inside this, such as 10.1.0.0/26")]
_PoolFilter = Annotated[PoolName | None, Query(description="only of this pool")]
_LOOK = responses(HTTPStatus.NOT_FOUND)
_CHANGE = responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class Reservation(Body):
    """An owner, and the addresses it shall have; of a family that is left out any is picked."""

    owner: Owner
    ifname: Ifname = "eth0"
    pool: PoolName | None = None
    addresses: tuple[Address, ...] = Field(default=(), max_length=2)


class NewAddresses(Body):
    """A pinned owner, and the addresses it shall have instead."""

    owner: Owner
    ifname: Ifname = "eth0"
    addresses: tuple[Address, ...] = Field(min_length=1, max_length=2)


class Release(Body):
    """Why an address is taken from whom it waits for, or out of quarantine; history keeps it.

    `force` says of an attached one that its pod is known to be gone: it is quarantined; operators alone.
    """

    reason: str = Reason
    expected_owner: Owner | None = None
    force: bool = False


@router.get("/networks/{network}/addresses", responses=_LOOK)
async def list_addresses(  # noqa: PLR0913, PLR0917  one argument for each filter
    site: SiteOf,
    identity: IdentityOf,
    network: Network,
    pool: _PoolFilter = None,
    owner: Annotated[Owner | None, Query(description="only what this owner has")] = None,
    node: Annotated[NodeName | None, Query(description="only what is attached on this node")] = None,
    state: Annotated[AllocationState | None, Query()] = None,
    within: _Within = None,
    after: After = None,
    limit: Limit = 100,
) -> AddressPage:
    """The addresses that were ever used. A page may be short and yet not be the last: `next` tells."""
    request = AddressList(
        network=network,
        pool=pool,
        owner=owner,
        node=node,
        state=state,
        within=within,
        after=after,
        limit=limit,
    )
    return await site.desk.ask(identity, request, AddressPage)


@router.get("/networks/{network}/addresses/{address}", responses=_LOOK)
async def show_address(
    site: SiteOf,
    identity: IdentityOf,
    network: Network,
    address: _Address,
    at: Annotated[Time | None, Query(description="as it was then, such as 2026-03-01T14:05:00Z")] = None,
) -> AddressView:
    """Who has an address, now or at a time."""
    return await site.desk.ask(identity, AddressShow(network=network, address=address, at=at), AddressView)


@router.get("/networks/{network}/map", responses=_LOOK)
async def map_addresses(
    site: SiteOf,
    identity: IdentityOf,
    network: Network,
    pool: _PoolFilter = None,
    within: _Within = None,
    after: After = None,
    limit: Limit = 100,
) -> AddressMapPage:
    """All addresses that can be handed out, as runs of one state. A run may go on in the next page.

    To a tenant, addresses of pools that do not allow its owners are `reserved` in a pool named `others`.
    """
    request = AddressMap(network=network, pool=pool, within=within, after=after, limit=limit)
    return await site.desk.ask(identity, request, AddressMapPage)


@router.get("/networks/{network}/tiles", responses=_LOOK)
async def count_tiles(
    site: SiteOf,
    identity: IdentityOf,
    network: Network,
    within: Annotated[Cidr, Query(description="a subnet, or a part of one")],
) -> TilesView:
    """`within` cut into at most 256 equal tiles, each with its addresses counted by state."""
    return await site.desk.ask(identity, AddressTiles(network=network, within=within), TilesView)


@router.post("/networks/{network}/addresses/reserve", status_code=201, responses=_CHANGE)
async def reserve_addresses(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: Network,
    wanted: Reservation,
    key: IdempotencyKey = None,
) -> OwnerAddresses:
    """Pin addresses to an owner before its pod exists. An owner that has them already is a success."""
    request = AddressReserve(request_id=key or str(uuid4()), network=network, **wanted.model_dump())
    return await changed(site, identity, response, key, request, OwnerAddresses)


@router.post("/networks/{network}/addresses/rebind", responses=_CHANGE)
async def rebind_addresses(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: Network,
    wanted: NewAddresses,
    key: IdempotencyKey = None,
) -> OwnerAddresses:
    """Move a pinned owner to other addresses; a pod that runs keeps what it has until it ends."""
    request = AddressRebind(request_id=key or str(uuid4()), network=network, **wanted.model_dump())
    return await changed(site, identity, response, key, request, OwnerAddresses)


@router.post("/networks/{network}/addresses/{address}/release", responses=_CHANGE)
async def release_address(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: Network,
    address: _Address,
    wanted: Release,
    key: IdempotencyKey = None,
) -> AddressView:
    """Take an address from whom it waits for, or end its quarantine. 409 while a pod has it."""
    request = AddressReleaseByOperator(
        request_id=key or str(uuid4()), network=network, address=address, **wanted.model_dump()
    )
    return await changed(site, identity, response, key, request, AddressView)
