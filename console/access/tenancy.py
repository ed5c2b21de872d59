"""What a tenant asks, held against its namespaces; what it is told, less what is not its own.

Both by the type of request and answer: what is not named here is not let through.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from console.access import permits
from console.access.identity import Identity
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
    OwnerAddresses,
)
from schemas.errors import Code, ServiceError
from schemas.fields import SYSTEM_NETWORK
from schemas.history import HistoryPage
from schemas.message import Done, Message, Page, Request
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView
from schemas.pool import PoolChange, PoolCreate, PoolList, PoolPage, PoolUpdate, PoolView
from schemas.tiles import AddressTiles, TilesView

Ask = Callable[[Request], Awaitable[Message]]
P = TypeVar("P", bound=Page)
_PAGE = 500
_TILED = 1000


class Tenancy:
    """One tenant's request, and its answer. Raises ServiceError."""

    def __init__(self, identity: Identity, ask: Ask) -> None:
        self.identity = identity
        self._ask = ask

    async def held_against(self, request: Request) -> Request:
        """The request as it may be made. Raises what says why not, or that there is no such thing."""
        network = getattr(request, "network", None)
        if network == SYSTEM_NETWORK:
            raise permits.forbidden(self.identity, "the history of nodes")
        if network is not None:
            await self._check_network(network)
        for kind, held in _HELD.items():
            if isinstance(request, kind):
                return await held(self, request)
        return request

    async def answered(self, request: Request) -> Message | None:
        """The answer of what is not asked as it is, but page by page until there is enough to see."""
        if isinstance(request, NetworkList):
            return await self.all_networks(request)
        return await self.all_pools(request) if isinstance(request, PoolList) else None

    async def narrowed(self, request: Request, found: Message) -> Message:
        """What this tenant sees of an answer. Raises as if what it does not see were not there."""
        seen = _SEEN.get(type(found))
        if seen is None:
            raise permits.forbidden(self.identity, request.NAME)
        return await seen(self, str(getattr(request, "network", "")), found)

    async def _check_network(self, name: str) -> None:
        view = await self._ask(NetworkShow(network=name, with_nodes=False))
        if not isinstance(view, NetworkView) or permits.seen_network(self.identity, view) is None:
            raise permits.no_network(name)

    async def new_pool(self, request: PoolCreate) -> Request:
        """For owners of its own namespaces, and for use."""
        permits.check_new_owners(self.identity, request.owners)
        if request.policy == "reserved":
            raise permits.forbidden(self.identity, "a reserved pool")
        return request

    async def changed_pool(self, request: PoolChange) -> Request:
        """A pool that is its alone; should it be another's by the time this arrives, it is refused there."""
        if isinstance(request, PoolUpdate) and request.owners is not None:
            permits.check_new_owners(self.identity, request.owners)
        pool = next((pool for pool in await self._pools(request.network) if pool.pool == request.pool), None)
        if pool is None:
            raise permits.no_pool(request.network, request.pool)
        permits.check_own_pool(self.identity, request.network, pool)
        if request.expected_version not in (None, pool.version):
            raise ServiceError(
                Code.VERSION_CONFLICT,
                f"pool {request.pool} was changed since: look at it again, then decide",
                pool=request.pool,
            )
        return request.model_copy(update={"expected_version": pool.version})

    async def own_owner(self, request: AddressReserve | AddressRebind) -> Request:
        """For an owner of its own, in a pool that it sees."""
        permits.check_new_owners(self.identity, (request.owner,))
        return await self.seen_pool(request)

    async def seen_pool(self, request: AddressReserve | AddressRebind | AddressList | AddressMap) -> Request:
        """About no pool, or one that allows its owners."""
        pool = getattr(request, "pool", None)
        if pool is not None and pool not in await self._visible(request.network):
            raise permits.no_pool(request.network, pool)
        return request

    async def all_networks(self, request: NetworkList) -> Page:
        """A page of the networks that allow its owners; `next` names none of the others either."""
        found: list[NetworkView] = []
        after = request.after
        while len(found) <= request.limit:
            page = await self._ask(NetworkList(after=after, limit=_PAGE))
            if not isinstance(page, NetworkPage):
                break
            seen = (permits.seen_network(self.identity, each) for each in page.networks)
            found += [each for each in seen if each is not None]
            if page.next is None or page.next == after:
                break
            after = page.next
        shown = tuple(found[: request.limit])
        return NetworkPage(networks=shown, next=shown[-1].network if len(found) > len(shown) else None)

    async def all_pools(self, request: PoolList) -> Page:
        """A page of the pools that allow its owners; `next` names none of the others either."""
        seen = (permits.seen_pool(self.identity, each) for each in await self._pools(request.network))
        found = [each for each in seen if each is not None and each.pool > (request.after or "")]
        shown = tuple(found[: request.limit])
        return PoolPage(pools=shown, next=shown[-1].pool if len(found) > len(shown) else None)

    async def own_address(self, request: AddressReleaseByOperator) -> Request:
        """What its own owner has; should somebody else have it by the time this arrives, it is refused."""
        if request.force:
            raise permits.forbidden(self.identity, "releasing an address by force")
        view = await self._ask(AddressShow(network=request.network, address=request.address))
        owner = view.owner if isinstance(view, AddressView) else None
        if owner is None or not permits.owns(self.identity, owner):
            raise permits.no_address(request.network, request.address)
        return request.model_copy(update={"expected_owner": request.expected_owner or owner})

    async def own_tiles(self, request: AddressTiles) -> Request:
        """Of pools that do not allow its owners it is told no more than that their addresses are taken."""
        named = tuple(sorted(await self._visible(request.network)))[:_TILED]
        return request.model_copy(update={"pools": named})

    async def _visible(self, network: str) -> frozenset[str]:
        pools = await self._pools(network)
        return frozenset(pool.pool for pool in pools if permits.allows(self.identity, pool.owners))

    async def _pools(self, network: str) -> list[PoolView]:
        found: list[PoolView] = []
        after: str | None = None
        while True:
            page = await self._ask(PoolList(network=network, after=after, limit=_PAGE))
            if not isinstance(page, PoolPage):
                return found
            found += page.pools
            if page.next is None or page.next == after:
                return found
            after = page.next

    async def own_pools(self, network: str) -> frozenset[str]:
        """The names of the pools that are for its owners alone."""
        pools = await self._pools(network)
        return frozenset(pool.pool for pool in pools if permits.owns_patterns(self.identity, pool.owners))

    async def network(self, network: str, found: NetworkView) -> Message:
        """One that allows its owners."""
        return _there(permits.seen_network(self.identity, found), permits.no_network(network))

    async def networks(self, _: str, found: NetworkPage) -> Message:
        """Those that allow its owners."""
        return _some(found, "networks", lambda each: permits.seen_network(self.identity, each))

    async def pool(self, network: str, found: PoolView) -> Message:
        """One that allows its owners."""
        return _there(permits.seen_pool(self.identity, found), permits.no_pool(network, found.pool))

    async def pools(self, _: str, found: PoolPage) -> Message:
        """Those that allow its owners."""
        return _some(found, "pools", lambda each: permits.seen_pool(self.identity, each))

    async def address(self, network: str, found: AddressView) -> Message:
        """One that its owner has, or nobody in a pool of its own."""
        own = await self.own_pools(network)
        seen = permits.seen_address(self.identity, found, own)
        return _there(seen, permits.no_address(network, found.address))

    async def addresses(self, network: str, found: AddressPage) -> Message:
        """Those that its owners have, or nobody in a pool of its own."""
        own = await self.own_pools(network)
        return _some(found, "addresses", lambda each: permits.seen_address(self.identity, each, own))

    async def map(self, network: str, found: AddressMapPage) -> Message:
        """All, but of pools that do not allow its owners no more than that they are taken."""
        visible = await self._visible(network)
        return found.model_copy(update={"runs": tuple(permits.seen_runs(self.identity, found.runs, visible))})

    async def history(self, network: str, found: HistoryPage) -> Message:
        """What happened to its owners and its pools."""
        own = await self.own_pools(network)
        return _some(found, "rows", lambda each: permits.seen_row(self.identity, each, own))

    async def as_it_is(self, _: str, found: Message) -> Message:
        """What tells of nothing but what was asked."""
        return found


_HELD: Mapping[type[Request], Callable[[Tenancy, Any], Awaitable[Request]]] = {
    PoolCreate: Tenancy.new_pool,
    PoolChange: Tenancy.changed_pool,
    AddressReserve: Tenancy.own_owner,
    AddressRebind: Tenancy.own_owner,
    AddressList: Tenancy.seen_pool,
    AddressMap: Tenancy.seen_pool,
    AddressReleaseByOperator: Tenancy.own_address,
    AddressTiles: Tenancy.own_tiles,
}
_SEEN: Mapping[type[Message], Callable[[Tenancy, str, Any], Awaitable[Message]]] = {
    NetworkView: Tenancy.network,
    NetworkPage: Tenancy.networks,
    PoolView: Tenancy.pool,
    PoolPage: Tenancy.pools,
    AddressView: Tenancy.address,
    AddressPage: Tenancy.addresses,
    AddressMapPage: Tenancy.map,
    HistoryPage: Tenancy.history,
    OwnerAddresses: Tenancy.as_it_is,
    TilesView: Tenancy.as_it_is,
    Done: Tenancy.as_it_is,
}


def _there(seen: Message | None, absent: ServiceError) -> Message:
    if seen is None:
        raise absent
    return seen


def _some(page: P, rows: str, seen: Callable[[Any], Message | None]) -> P:
    """A page with those rows alone; it may be short, or empty, and yet not be the last."""
    kept = tuple(found for each in getattr(page, rows) if (found := seen(each)) is not None)
    return page.model_copy(update={rows: kept})
