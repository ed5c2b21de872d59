"""Everything that only reads: `handle(query, connection) -> answer`. Waits for no lock and takes none."""

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TypeVar

from sqlalchemy import Connection

from allocator.model import Allocation, Network
from allocator.store import allocations, history, networks, nodes, pools
from allocator.tables import stored
from allocator.views import network_view, pool_view
from schemas.address import AddressList, AddressPage, AddressShow, AddressView
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.history import HistoryList, HistoryPage, HistoryRow
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView
from schemas.node import NodeList, NodePage, NodeView
from schemas.pool import AddressRange, PoolList, PoolPage

T = TypeVar("T")


def network_list(query: NetworkList, connection: Connection) -> NetworkPage:
    """Networks by name, without their nodes."""
    rows = networks.page(connection, _cursor(query.after or "", _name), query.limit)
    shown = rows[: query.limit]
    views = tuple(
        network_view(connection, networks.assemble(connection, row), with_nodes=False) for row in shown
    )
    return NetworkPage(networks=views, next=shown[-1]["name"] if len(rows) > len(shown) else None)


def network_show(query: NetworkShow, connection: Connection) -> NetworkView:
    """One network with its nodes."""
    return network_view(connection, _network(connection, query.network))


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
    within = None if query.pool is None else _spans(connection, network, query.pool, after)
    rows = allocations.page(connection, network.id, query, after=after, within=within)
    shown = rows[: query.limit]
    views = tuple(_address_view(network, row) for row in shown)
    return AddressPage(addresses=views, next=str(shown[-1].address) if len(rows) > len(shown) else None)


def _spans(
    connection: Connection, network: Network, name: str, after: IPAddress | None
) -> list[AddressRange]:
    """What of a pool lies behind the cursor, in the order of the page."""
    pool = next((pool for pool in network.pools if pool.name == name), None)
    if pool is None:
        return []
    parts = sorted(pools.ranges(connection, pool.id), key=lambda part: stored(part.first))
    return [part.span() for part in parts if after is None or stored(part.last) > stored(after)]


def address_show(query: AddressShow, connection: Connection) -> AddressView:
    """One address."""
    network = _network(connection, query.network)
    row = allocations.at(connection, network.id, query.address)
    if row is None:
        raise ServiceError(
            Code.ADDRESS_UNKNOWN,
            f"{query.address} was never used in network {query.network}; `moorage pool list {query.network}` "
            "shows which addresses the network has",
            address=str(query.address),
        )
    return _address_view(network, row)


def node_list(query: NodeList, connection: Connection) -> NodePage:
    """Nodes by name."""
    rows = nodes.page(connection, _cursor(query.after or "", _name), query.limit)
    shown = rows[: query.limit]
    views = tuple(
        NodeView(
            node=row["name"],
            state=row["state"],
            session=row["session"],
            last_seen=_utc(row["last_seen"]),
            ready=row["ready"],
            errors=row["errors"],
            attached=row["attached"],
        )
        for row in shown
    )
    return NodePage(nodes=views, next=shown[-1]["name"] if len(rows) > len(shown) else None)


def history_list(query: HistoryList, connection: Connection) -> HistoryPage:
    """History of a network, oldest first; also of a network that is deleted."""
    row = networks.find(connection, query.network)
    if row is None:
        raise _unknown(query.network)
    rows = history.page(connection, row["id"], query, after=_cursor(query.after or "0", int))
    shown = rows[: query.limit]
    fields = set(HistoryRow.model_fields) - {"network", "at"}
    views = tuple(
        HistoryRow(network=query.network, at=_utc(found["at"]), **{field: found[field] for field in fields})
        for found in shown
    )
    return HistoryPage(rows=views, next=str(shown[-1]["seq"]) if len(rows) > len(shown) else None)


def _network(connection: Connection, name: str) -> Network:
    row = networks.find(connection, name)
    if row is None or row["state"] == "deleted":
        raise _unknown(name)
    return networks.assemble(connection, row)


def _unknown(name: str) -> ServiceError:
    return ServiceError(
        Code.NETWORK_UNKNOWN,
        f"there is no network {name}; `moorage network list` shows those there are",
        network=name,
    )


def _address_view(network: Network, row: Allocation) -> AddressView:
    pool = network.pool(row.pool_id)
    fields = set(AddressView.model_fields) - {"network", "pool", "policy", "since"}
    return AddressView(
        network=network.name,
        pool=pool.name,
        policy=pool.policy,
        since=_utc(row.since),
        **{field: getattr(row, field) for field in fields},
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


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
