"""Everything that only reads: `handle(query, connection) -> answer`. Waits for no lock and takes none."""

from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import TypeVar

from sqlalchemy import Connection

from allocator import tiles
from allocator.maps import Run, joined, runs
from allocator.model import Network, Pool, Range
from allocator.ranges import overlap, within_subnets
from allocator.store import allocations, history, networks, nodes, pools
from allocator.store.tiles import counts
from allocator.tables import stored
from allocator.views import address_of, address_view, network_view, pool_view, utc
from schemas.address import (
    AddressList,
    AddressMap,
    AddressMapPage,
    AddressPage,
    AddressRun,
    AddressShow,
    AddressView,
    AllocationState,
)
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress, IPNetwork
from schemas.history import HistoryList, HistoryPage, HistoryRow
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView
from schemas.node import NodeList, NodePage, NodeView
from schemas.pool import AddressRange, PoolList, PoolPage
from schemas.tiles import AddressTiles, TilesView

T = TypeVar("T")

_MAP_ROWS = 20_000
"""How many rows one page of an address map may read: some 50 ms."""


def network_list(query: NetworkList, connection: Connection) -> NetworkPage:
    """Networks by name, without their nodes."""
    rows = networks.page(connection, _cursor(query.after or "", _name), query.limit)
    shown = rows[: query.limit]
    found = networks.assemble(connection, shown) if shown else []
    views = tuple(network_view(connection, network, with_nodes=False) for network in found)
    return NetworkPage(networks=views, next=shown[-1]["name"] if len(rows) > len(shown) else None)


def network_show(query: NetworkShow, connection: Connection) -> NetworkView:
    """One network with its nodes, or how many are in which state."""
    return network_view(connection, _network(connection, query.network), with_nodes=query.with_nodes)


def pool_list(query: PoolList, connection: Connection) -> PoolPage:
    """The pools of a network by name."""
    network = _network(connection, query.network)
    found = pools.page(connection, network.id, _cursor(query.after or "", _name), query.limit)
    shown = found[: query.limit]
    views = tuple(pool_view(network.name, pool, pools.ranges(connection, pool.id)) for pool in shown)
    return PoolPage(pools=views, next=shown[-1].name if len(found) > len(shown) else None)


def address_list(query: AddressList, connection: Connection) -> AddressPage:
    """Addresses that were ever used, in address order."""
    network = _network(connection, query.network)
    after = None if query.after is None else _cursor(query.after, ip_address)
    within = _spans(connection, network, query, after)
    rows = allocations.page(connection, network.id, query, after=after, within=within)
    shown = rows[: query.limit]
    views = tuple(address_view(network, row) for row in shown)
    return AddressPage(addresses=views, next=str(shown[-1].address) if len(rows) > len(shown) else None)


def _spans(
    connection: Connection, network: Network, query: AddressList, after: IPAddress | None
) -> list[AddressRange] | None:
    """What of a pool, and of what it is narrowed to, lies behind the cursor, in the order of the page."""
    if query.pool is None and query.within is None:
        return None
    inside = None if query.within is None else _inside(network, query.within)
    found = inside or []
    if query.pool is not None:
        pool = network.named(query.pool)
        parts = [] if pool is None else [part.span() for part in pools.ranges(connection, pool.id)]
        found = parts if inside is None else overlap(parts, inside)
    ordered = sorted(found, key=lambda span: stored(span.first))
    return [span for span in ordered if after is None or stored(span.last) > stored(after)]


def _inside(network: Network, within: IPNetwork) -> list[AddressRange]:
    return within_subnets([subnet.cidr for subnet in network.definition.subnets], within)


def address_show(query: AddressShow, connection: Connection) -> AddressView:
    """One address, now or at a time."""
    found = allocations.shown(connection, query.network, query.address) if query.at is None else None
    if found is not None:
        row, pool, policy = found
        return address_of(query.network, pool, policy, row)
    network = _network(connection, query.network)
    if query.at is not None:
        return _address_then(connection, network, query.address, query.at)
    raise ServiceError(
        Code.ADDRESS_UNKNOWN,
        f"{query.address} was never used in network {query.network}; `moorage pool list {query.network}` "
        "shows which addresses the network has",
        address=str(query.address),
    )


_STATES: Mapping[str, AllocationState] = {
    "address.attached": "attached",
    "address.adopted": "attached",
    "address.reserved": "waiting",
    "address.rebound": "waiting",
    "address.waiting": "waiting",
    "address.taken_over": "waiting",
    "address.freed": "free",
    "address.quarantined": "quarantined",
}
"""The state that an address is in after each event."""


def _address_then(connection: Connection, network: Network, address: IPAddress, at: datetime) -> AddressView:
    found = history.latest_of_address(connection, network.id, address, at.replace(tzinfo=None))
    if found is None:
        raise ServiceError(
            Code.ADDRESS_UNKNOWN,
            f"nothing is known of {address} in network {network.name} at {at:%Y-%m-%d %H:%M:%S} UTC: it was "
            "not used by then, or longer ago than history is kept",
            address=str(address),
        )
    state = _STATES[found["event"]]
    pool = network.named(found["pool"] or "") or network.pools[0]
    there = ("node", "container_id", "attachment_id") if state == "attached" else ()
    kept = ("owner", "mac", "ifname") if state != "free" else ()
    return AddressView(
        network=network.name,
        pool=found["pool"] or pool.name,
        policy=pool.policy,
        address=address,
        state=state,
        since=utc(found["at"]),
        **{field: found[field] for field in (*kept, *there)},
    )


def address_map(query: AddressMap, connection: Connection) -> AddressMapPage:
    """All addresses as runs. Reads rows page by page until enough runs are there, or many rows were read."""
    network = _network(connection, query.network)
    after = None if query.after is None else _cursor(query.after, ip_address)
    now = networks.database_time(connection)
    found: list[Run] = []
    end: IPAddress | None = None
    budget = _MAP_ROWS
    for pool_id, part in _parts(connection, network, query, after):
        first = part.first if after is None or stored(after) < stored(part.first) else after + 1
        span = AddressRange(first=first, last=part.last)
        rows = allocations.stretch(connection, network.id, span, budget)
        cut = len(rows) == budget
        if cut:
            span = AddressRange(first=first, last=rows[-1][0])
        budget -= len(rows)
        found = list(joined([*found, *runs(span, network.pool(pool_id), rows, now)]))
        end = span.last
        if cut or budget <= 0 or len(found) > query.limit:
            break
    else:
        end = None
    shown = found[: query.limit]
    if len(found) > query.limit:
        end = shown[-1].last
    return AddressMapPage(
        runs=tuple(
            AddressRun(first=run.first, last=run.last, pool=run.pool, state=run.state, count=str(run.count))
            for run in shown
        ),
        next=None if end is None else str(end),
    )


def _parts(
    connection: Connection, network: Network, query: AddressMap, after: IPAddress | None
) -> list[tuple[int, AddressRange]]:
    """Of each pool, by id, what is to be shown and lies, at least in part, behind the cursor, in order."""
    only = None if query.pool is None else network.named(query.pool)
    if query.pool is not None and only is None:
        raise ServiceError(
            Code.POOL_UNKNOWN,
            f"network {network.name} has no pool {query.pool}; `moorage pool list {network.name}` shows them",
            pool=query.pool,
        )
    inside = None if query.within is None else _inside(network, query.within)
    parts = _ranges(connection, network, only, inside)
    spans = [
        (part.pool_id, span)
        for part in parts
        for span in ([part.span()] if inside is None else overlap([part.span()], inside))
    ]
    ordered = sorted(spans, key=lambda each: stored(each[1].first))
    return [
        (pool_id, span) for pool_id, span in ordered if after is None or stored(span.last) > stored(after)
    ]


def _ranges(
    connection: Connection, network: Network, only: Pool | None, inside: list[AddressRange] | None
) -> list[Range]:
    if only is not None:
        return pools.ranges(connection, only.id)
    if inside is not None:
        return pools.ranges_within(connection, network.id, inside)
    return pools.network_ranges(connection, network.id)


def address_tiles(query: AddressTiles, connection: Connection) -> TilesView:
    """A subnet or a part of one, counted by tile: ranges in Python, rows in one statement of the database."""
    network = _network(connection, query.network)
    subnets = [subnet.cidr for subnet in network.definition.subnets]
    grid = tiles.grid_of(network.name, subnets, query.within)
    parts = pools.ranges_within(connection, network.id, _inside(network, query.within))
    by_id = {pool.id: pool for pool in network.pools}
    spans = [(part.span(), part.pool_id) for part in parts if part.pool_id in by_id]
    found = tiles.counted(grid, spans, by_id, counts(connection, network.id, grid), query.pools)
    return tiles.view(network.name, grid, found)


def node_list(query: NodeList, connection: Connection) -> NodePage:
    """Nodes by name."""
    rows = nodes.page(connection, _cursor(query.after or "", _name), query.limit)
    shown = rows[: query.limit]
    views = tuple(
        NodeView(
            node=row["name"],
            state=row["state"],
            session=row["session"],
            last_seen=utc(row["last_seen"]),
            ready=row["ready"],
            errors=row["errors"],
            attached=row["attached"],
        )
        for row in shown
    )
    return NodePage(
        nodes=views,
        next=shown[-1]["name"] if len(rows) > len(shown) else None,
        database_time=utc(networks.database_time(connection)),
    )


def history_list(query: HistoryList, connection: Connection) -> HistoryPage:
    """History of a network, also of one that is deleted, or of the nodes."""
    row = networks.find(connection, query.network)
    if row is None:
        raise _unknown(query.network)
    after = None if query.after is None else _cursor(query.after, int)
    rows = history.page(connection, row["id"], query, after=after)
    shown = rows[: query.limit]
    fields = set(HistoryRow.model_fields) - {"network", "at"}
    views = tuple(
        HistoryRow(network=query.network, at=utc(found["at"]), **{field: found[field] for field in fields})
        for found in shown
    )
    return HistoryPage(rows=views, next=str(shown[-1]["seq"]) if len(rows) > len(shown) else None)


def _network(connection: Connection, name: str) -> Network:
    row = networks.find(connection, name)
    if row is None or row["state"] == "deleted":
        raise _unknown(name)
    return networks.assemble(connection, [row])[0]


def _unknown(name: str) -> ServiceError:
    return ServiceError(
        Code.NETWORK_UNKNOWN,
        f"there is no network {name}; `moorage network list` shows those there are",
        network=name,
    )


def _cursor(text: str, read: Callable[[str], T]) -> T:
    """The place that a page's `next` named. Raises `invalid_request` for anything else."""
    try:
        return read(text)
    except ValueError:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"after: {text!r} is not the `next` of an earlier page of this query; leave it out to begin",
            after=text,
        ) from None


def _name(text: str) -> str:
    if not text.isascii():  # names are; the database would refuse to compare
        raise ValueError(text)
    return text
