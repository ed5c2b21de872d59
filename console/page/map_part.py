"""The address map of a part of a network, and one address of it."""

from ipaddress import ip_address, ip_network
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Response

from console.page import grid
from console.page.browser import Visit, VisitOf, redirect
from console.page.forms import fields
from schemas.address import (
    AddressList,
    AddressMap,
    AddressMapPage,
    AddressPage,
    AddressReleaseByOperator,
    AddressShow,
    AddressView,
)
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress, IPNetwork
from schemas.history import HistoryList, HistoryPage
from schemas.network import NetworkShow, NetworkView
from schemas.pool import PoolList, PoolPage, PoolView
from schemas.tiles import AddressTiles, TilesView

router = APIRouter()
_PAGE = 150
_ROWS = 256
_MOST_POOLS = 500


@router.get("/networks/{network}/map")
async def show_map(
    visit: VisitOf,
    network: str,
    within: Annotated[str | None, Query()] = None,
    at: Annotated[str | None, Query()] = None,
    choose: Annotated[bool, Query()] = False,
) -> Response:
    """The map alone: what a page puts in place of the one it shows."""
    view = await visit.ask(NetworkShow(network=network, with_nodes=False), NetworkView)
    about = await grid_about(visit, view, within, at)
    return visit.page("map.html", network=view, choose=choose, **about)


async def pools_of(visit: Visit, network: str) -> list[PoolView]:
    """The pools of a network, the first few hundred of them."""
    page = await visit.ask(PoolList(network=network, limit=_MOST_POOLS), PoolPage)
    return list(page.pools)


async def grid_about(visit: Visit, view: NetworkView, within: str | None, at: str | None) -> dict[str, Any]:
    """What the map's template needs. `at` is an address or an owner to go to. Raises ServiceError."""
    subnets = [subnet.cidr for subnet in view.definition.subnets]
    sought = await _sought(visit, view.network, at.strip()) if at and at.strip() else None
    part, subnet = _part(subnets, within, sought)
    found = await _grid(visit, view.network, part)
    pools = await pools_of(visit, view.network)
    return {
        "grid": found,
        "subnets": subnets,
        "trail": grid.trail(subnet, part),
        "pools": pools,
        "pool_names": [pool.pool for pool in pools],
        "sought": str(sought) if sought is not None else None,
    }


async def _sought(visit: Visit, network: str, text: str) -> IPAddress:
    """The address that is meant: itself, or the first one of an owner. Raises `address_unknown`."""
    if "/" not in text and not text.startswith("container:"):
        return _address(text)
    page = await visit.ask(AddressList(network=network, owner=text, limit=1), AddressPage)
    if not page.addresses:
        raise ServiceError(Code.ADDRESS_UNKNOWN, f"{text} has no address in network {network}")
    return page.addresses[0].address


def _part(
    subnets: list[IPNetwork], within: str | None, sought: IPAddress | None
) -> tuple[IPNetwork, IPNetwork]:
    """The part to be shown, and the subnet that it is of. Raises `invalid_request`, `range_invalid`."""
    if sought is not None:
        for subnet in subnets:
            if sought.version == subnet.version and sought in subnet:
                return grid.part_around(subnet, sought), subnet
        raise _elsewhere(str(sought), subnets)
    if not within:
        return subnets[0], subnets[0]
    try:
        part = ip_network(within)
    except ValueError as error:
        raise ServiceError(Code.INVALID_REQUEST, f"{within!r} is no part of a network: {error}") from error
    for subnet in subnets:
        if part.version == subnet.version and part.subnet_of(subnet):  # type: ignore[arg-type]
            return part, subnet
    raise _elsewhere(str(part), subnets)


def _elsewhere(what: str, subnets: list[IPNetwork]) -> ServiceError:
    there = ", ".join(map(str, subnets))
    return ServiceError(Code.RANGE_INVALID, f"{what} does not lie inside one subnet of the network: {there}")


def _address(text: str) -> IPAddress:
    try:
        return ip_address(text.strip())
    except ValueError as error:
        raise ServiceError(
            Code.INVALID_REQUEST, f"{text!r} is not an IPv4 or IPv6 address, and no owner such as shop/web-0"
        ) from error


async def _grid(visit: Visit, network: str, part: IPNetwork) -> grid.Grid:
    if grid.is_tiled(part):
        return grid.of_tiles(await visit.ask(AddressTiles(network=network, within=part), TilesView))
    runs: list[Any] = []
    after: str | None = None
    while True:
        page = await visit.ask(
            AddressMap(network=network, within=part, after=after, limit=_ROWS), AddressMapPage
        )
        runs += page.runs
        if page.next is None or page.next == after:
            break
        after = page.next
    rows: list[AddressView] = []
    after = None
    while True:
        listed = await visit.ask(
            AddressList(network=network, within=part, after=after, limit=_PAGE), AddressPage
        )
        rows += listed.addresses
        if listed.next is None or listed.next == after:
            break
        after = listed.next
    return grid.of_addresses(part, runs, rows)


@router.get("/networks/{network}/addresses/{address}")
async def show_address(visit: VisitOf, network: str, address: str) -> Response:
    """One address: who has it, and who had it."""
    where = _address(address)
    row: AddressView | None = None
    try:
        row = await visit.ask(AddressShow(network=network, address=where), AddressView)
    except ServiceError as error:
        if error.code != Code.ADDRESS_UNKNOWN:
            raise
    past = await visit.ask(
        HistoryList(network=network, address=where, newest_first=True, limit=50), HistoryPage
    )
    return visit.page(
        "address.html", network=network, address=str(where), row=row, rows=past.rows, next=past.next
    )


@router.post("/networks/{network}/addresses/{address}/release")
async def release_address(visit: VisitOf, network: str, address: str) -> Response:
    """Take an address from whom it waits for, or end its quarantine."""
    form = await fields(visit.request)
    request = AddressReleaseByOperator.model_validate(
        {
            "request_id": form.text("request_id") or str(uuid4()),
            "network": network,
            "address": address,
            "reason": form.text("reason"),
            "expected_owner": form.text("expected_owner") or None,
            "force": form.flag("force"),
        }
    )
    await visit.ask(request, AddressView)
    return redirect(visit.request, f"/networks/{network}/addresses/{address}")
