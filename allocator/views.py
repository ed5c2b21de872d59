"""Networks, pools and addresses as people see them, made from what the store holds."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from allocator.model import Allocation, Network, Pool, Range
from allocator.ranges import merged
from allocator.store import nodes, pools
from schemas.address import AddressView
from schemas.errors import ErrorBody
from schemas.network import NetworkView, NodeResult
from schemas.pool import Policy, PoolView

_RANGES_SHOWN = 256
_SAME = ("address", "state", "owner", "mac", "ifname", "node", "container_id", "attachment_id")


def network_view(connection: Connection, network: Network, *, with_nodes: bool = True) -> NetworkView:
    """The network, how many of its addresses are used and, if asked for, its state node by node."""
    parts = pools.network_ranges(connection, network.id)
    counts = nodes.rollout_counts(connection, network.id)
    return NetworkView(
        network=network.name,
        definition=network.definition,
        state=network.state,
        version=network.version,
        total=sum(part.size for part in parts),
        used=sum(part.used for part in parts),
        nodes=node_results(connection, network.id) if with_nodes else (),
        node_counts=counts,
    )


def node_results(connection: Connection, network_id: int) -> tuple[NodeResult, ...]:
    """What each node said of the network."""
    return tuple(
        NodeResult(
            node=row["node"],
            state=row["state"],
            error=ErrorBody.model_validate(row["error"]) if row["error"] is not None else None,
        )
        for row in nodes.rollout(connection, network_id)
    )


def pool_view(network: str, pool: Pool, parts: Sequence[Range]) -> PoolView:
    """The pool with its ranges, adjacent ones shown as one."""
    spans = merged([part.span() for part in parts])
    return PoolView(
        network=network,
        pool=pool.name,
        policy=pool.policy,
        owners=pool.owners,
        cooldown_s=pool.cooldown_s,
        retain_s=pool.retain_s,
        allow_mac=pool.allow_mac,
        version=pool.version,
        ranges=tuple(spans[:_RANGES_SHOWN]),
        range_count=len(spans),
        total=sum(part.size for part in parts),
        used=sum(part.used for part in parts),
    )


def address_view(network: Network, row: Allocation) -> AddressView:
    """One address, with its pool."""
    pool = network.pool(row.pool_id)
    return address_of(network.name, pool.name, pool.policy, row)


def address_of(network: str, pool: str, policy: Policy, row: Allocation) -> AddressView:
    """One address, with the names of its network and pool."""
    return AddressView(
        network=network,
        pool=pool,
        policy=policy,
        since=utc(row.since),
        **{field: getattr(row, field) for field in _SAME},
    )


def utc(moment: datetime) -> datetime:
    """A database time as it travels."""
    return moment.replace(tzinfo=UTC)
