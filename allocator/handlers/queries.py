"""Everything that only reads: `handle(query, connection) -> answer`. Waits for no lock and takes none."""

from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping

from allocator.model import Network
from allocator.store import allocations, history, networks, nodes, pools
from allocator.views import network_view, pool_view
from schemas.address import AddressList, AddressPage, AddressShow, AddressView
from schemas.errors import Code, ServiceError
from schemas.history import HistoryList, HistoryPage, HistoryRow
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView
from schemas.node import NodeList, NodePage, NodeView
from schemas.pool import PoolList, PoolPage


def network_list(query: NetworkList, connection: Connection) -> NetworkPage:
    """Networks by name, without their nodes."""
    rows = networks.page(connection, query.after or "", query.limit)
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
    found = pools.page(connection, network.id, query.after or "", query.limit)
    shown = found[: query.limit]
    views = tuple(pool_view(network.name, pool, pools.ranges(connection, pool.id)) for pool in shown)
    return PoolPage(pools=views, next=shown[-1].name if len(found) > len(shown) else None)


def address_list(query: AddressList, connection: Connection) -> AddressPage:
    """Addresses that were ever used, in address order."""
    network = _network(connection, query.network)
    rows = allocations.page(connection, network.id, query)
    shown = rows[: query.limit]
    views = tuple(_address_view(network, row) for row in shown)
    return AddressPage(addresses=views, next=str(shown[-1]["address"]) if len(rows) > len(shown) else None)


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
    rows = nodes.page(connection, query.after or "", query.limit)
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
    rows = history.page(connection, row["id"], query)
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


def _address_view(network: Network, row: RowMapping) -> AddressView:
    fields = set(AddressView.model_fields) - {"network", "since"}
    return AddressView(
        network=network.name, since=_utc(row["since"]), **{field: row[field] for field in fields}
    )


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
