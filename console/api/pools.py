"""/api/v1/networks/NETWORK/pools: list, show, create, resize, update, delete."""

from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Path, Response
from pydantic import Field

from console.access import permits
from console.api.parameters import After, Body, Limit, Network, Version, changed
from console.api.problems import responses
from console.api.site import IdempotencyKey, IdentityOf, SiteOf
from schemas.fields import OwnerPattern, PoolName
from schemas.message import Done
from schemas.pool import (
    LONGEST_S,
    AddressRange,
    PoolCreate,
    PoolDefinition,
    PoolDelete,
    PoolList,
    PoolPage,
    PoolResize,
    PoolUpdate,
    PoolView,
    Size,
)

router = APIRouter(tags=["pools"])

_Pool = Annotated[PoolName, Path(description="the pool's name")]
_Expected = Field(default=None, ge=0, le=(1 << 63) - 1)
_CHANGE = responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_PAGE = 500


class NewPool(Body, PoolDefinition):
    """A pool to be carved out of the default pool: `ranges`, or any `size` addresses of each family."""

    pool: PoolName
    size: int | None = Size


class NewSize(Body):
    """Ranges to take from the default pool and to give back, or a size for each family."""

    add: tuple[AddressRange, ...] = Field(default=(), max_length=256)
    remove: tuple[AddressRange, ...] = Field(default=(), max_length=256)
    size: int | None = Size
    expected_version: int | None = _Expected


class NewSettings(Body):
    """What to change; what is left out stays as it is. `retain_s` 0 is for ever."""

    owners: tuple[OwnerPattern, ...] | None = Field(default=None, max_length=256)
    cooldown_s: int | None = Field(default=None, ge=0, le=604800)
    retain_s: int | None = Field(default=None, ge=0, le=LONGEST_S)
    allow_mac: bool | None = None
    expected_version: int | None = _Expected


@router.get("/networks/{network}/pools", responses=responses(HTTPStatus.NOT_FOUND))
async def list_pools(
    site: SiteOf, identity: IdentityOf, network: Network, after: After = None, limit: Limit = 100
) -> PoolPage:
    """The pools of a network by name; of a tenant those that allow its owners."""
    return await site.desk.ask(identity, PoolList(network=network, after=after, limit=limit), PoolPage)


@router.get("/networks/{network}/pools/{pool}", responses=responses(HTTPStatus.NOT_FOUND))
async def show_pool(site: SiteOf, identity: IdentityOf, network: Network, pool: _Pool) -> PoolView:
    """One pool."""
    after: str | None = None
    while True:
        page = await site.desk.ask(identity, PoolList(network=network, after=after, limit=_PAGE), PoolPage)
        found = next((each for each in page.pools if each.pool == pool), None)
        if found is not None:
            return found
        if page.next is None or page.next == after:
            raise permits.no_pool(network, pool)
        after = page.next


@router.post("/networks/{network}/pools", status_code=201, responses=_CHANGE)
async def create_pool(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: Network,
    wanted: NewPool,
    key: IdempotencyKey = None,
) -> PoolView:
    """Create a pool; a tenant for owners of its own namespaces. 409 names the holders in the way."""
    request = PoolCreate(request_id=key or str(uuid4()), network=network, **wanted.model_dump(mode="python"))
    return await changed(site, identity, response, key, request, PoolView)


@router.patch("/networks/{network}/pools/{pool}", responses=_CHANGE)
async def update_pool(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: Network,
    pool: _Pool,
    wanted: NewSettings,
    key: IdempotencyKey = None,
) -> PoolView:
    """Change how a pool treats its addresses and who may use them; who has addresses keeps them."""
    request = PoolUpdate(request_id=key or str(uuid4()), network=network, pool=pool, **wanted.model_dump())
    return await changed(site, identity, response, key, request, PoolView)


@router.post("/networks/{network}/pools/{pool}/resize", responses=_CHANGE)
async def resize_pool(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: Network,
    pool: _Pool,
    wanted: NewSize,
    key: IdempotencyKey = None,
) -> PoolView:
    """Give a pool addresses of the default pool, or take some back. 409 names the holders in the way."""
    request = PoolResize(request_id=key or str(uuid4()), network=network, pool=pool, **wanted.model_dump())
    return await changed(site, identity, response, key, request, PoolView)


@router.delete("/networks/{network}/pools/{pool}", status_code=204, responses=_CHANGE)
async def delete_pool(
    site: SiteOf,
    identity: IdentityOf,
    response: Response,
    network: Network,
    pool: _Pool,
    expected_version: Version = None,
    key: IdempotencyKey = None,
) -> None:
    """Give all addresses of a pool back to the default pool. 409 names the holders in the way."""
    request = PoolDelete(
        request_id=key or str(uuid4()), network=network, pool=pool, expected_version=expected_version
    )
    await changed(site, identity, response, key, request, Done)
