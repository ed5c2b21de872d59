"""Nodes and rollouts: who is there, and how far each is with each network."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, and_, func, or_, select, text, update
from sqlalchemy.dialects.mysql import insert

from allocator import tables as t
from schemas.fields import IPAddress
from schemas.node import NodeReport, desired_digest

PRESENT = ("creating", "active", "failed")
"""Network states in which every node has to have the network."""


@dataclass(frozen=True, slots=True)
class NodeSession:
    """What is known of a node's present life."""

    session: UUID
    fenced_session: UUID | None
    state: str
    last_seen: datetime
    address: IPAddress | None
    """Where tunnels to the node end, as far as it said."""

    def is_current(self, session: UUID) -> bool:
        """Whether this session is the node's last one and was not declared off."""
        return self.session == session and self.fenced_session != session


def sessions(connection: Connection, names: Collection[str]) -> dict[str, NodeSession]:
    """The sessions of these nodes, as far as they are known."""
    n = t.nodes.c
    columns = (n.name, n.session, n.fenced_session, n.state, n.last_seen, n.address)
    statement = select(*columns).where(n.name.in_(names))
    return {row.name: NodeSession(*row[1:]) for row in connection.execute(statement)}


def seen(connection: Connection, names: Collection[str], now: datetime) -> None:
    """Note a sign of life of these nodes."""
    if names:
        statement = update(t.nodes).where(t.nodes.c.name.in_(names))
        connection.execute(statement.values(state="ready", last_seen=now))


def join(connection: Connection, name: str, session: UUID, now: datetime, address: IPAddress | None) -> None:
    """Make the node known and ready under this session; without an address, under the one it had."""
    values = {"session": session, "state": "ready", "last_seen": now}
    values |= {"address": address} if address is not None else {}
    statement = insert(t.nodes).values(name=name, **values)
    connection.execute(statement.on_duplicate_key_update(**values))


def silent(connection: Connection, before: datetime) -> list[str]:
    """The ready nodes that were not heard of since `before`."""
    statement = select(t.nodes.c.name).where(t.nodes.c.state == "ready", t.nodes.c.last_seen < before)
    return list(connection.execute(statement.order_by(t.nodes.c.name)).scalars())


def mark_lost(connection: Connection, name: str, before: datetime) -> bool:
    """Mark the node lost unless it was heard of since `before`; whether it was. Nothing else moves."""
    n = t.nodes.c
    statement = update(t.nodes).where(n.name == name, n.state == "ready", n.last_seen < before)
    return connection.execute(statement.values(state="lost")).rowcount > 0


def mark_all_lost(connection: Connection) -> None:
    """Know of no node whether it lives."""
    connection.execute(update(t.nodes).where(t.nodes.c.state == "ready").values(state="lost"))


def lost(connection: Connection) -> list[str]:
    """The names of all lost nodes."""
    statement = select(t.nodes.c.name).where(t.nodes.c.state == "lost").order_by(t.nodes.c.name)
    return list(connection.execute(statement).scalars())


def fence(connection: Connection, name: str, session: UUID) -> None:
    """Note that this life of the node was declared off."""
    statement = update(t.nodes).where(t.nodes.c.name == name)
    connection.execute(statement.values(state="fenced", fenced_session=session))


def remove(connection: Connection, name: str) -> None:
    """Forget a node and what it said of networks."""
    connection.execute(t.rollouts.delete().where(t.rollouts.c.node == name))
    connection.execute(t.nodes.delete().where(t.nodes.c.name == name))


def ready(connection: Connection) -> list[str]:
    """The names of all ready nodes."""
    statement = select(t.nodes.c.name).where(t.nodes.c.state == "ready").order_by(t.nodes.c.name)
    return list(connection.execute(statement).scalars())


def present_digest(connection: Connection) -> str:
    """The digest of the networks that every node has to have, and of the nodes that their tunnels lead to."""
    n = t.networks.c
    statement = select(n.name, n.version, n.has_tunnels).where(n.state.in_(PRESENT))
    rows = list(connection.execute(statement))
    peers = _peers_digest(connection) if any(row.has_tunnels for row in rows) else ""
    return desired_digest(((row.name, row.version) for row in rows), peers)


def have_tunnels(connection: Connection) -> bool:
    """Whether a network that nodes have to have leads from node to node."""
    n = t.networks.c
    statement = select(n.id).where(n.state.in_(PRESENT), n.has_tunnels == 1).limit(1)
    return connection.execute(statement).first() is not None


def peers(connection: Connection) -> list[IPAddress]:
    """Where the tunnels of all nodes end that were not declared off.

    A node that is lost is among them: pods go on while its worker, or the way to RabbitMQ, is away.
    """
    n = t.nodes.c
    statement = select(n.address).where(n.address.is_not(None), n.state != "fenced").order_by(n.address)
    return list(connection.execute(statement).scalars())


_PEERS_DIGEST = text(
    "SELECT CONCAT(COUNT(*), ':', COALESCE(BIT_XOR(CRC32(address)), 0)) FROM nodes "
    "WHERE address IS NOT NULL AND state <> 'fenced'"
)
"""As `schemas.node.peers_digest` makes it of `peers`, without reading them: each heartbeat asks for it."""


def _peers_digest(connection: Connection) -> str:
    return str(connection.execute(_PEERS_DIGEST).scalar_one())


def desired(connection: Connection, node: str, after: str, limit: int) -> list[RowMapping]:
    """Networks the node must have, and those it must still get rid of, by name."""
    n = t.networks.c
    joined = t.networks.outerjoin(
        t.rollouts, and_(t.rollouts.c.network_id == n.id, t.rollouts.c.node == node)
    )
    statement = (
        select(n.name, n.version, n.state, n.definition, n.has_tunnels)
        .select_from(joined)
        .where(
            n.name > after,
            or_(
                n.state.in_(PRESENT),
                and_(t.rollouts.c.node.is_not(None), t.rollouts.c.state != "removed"),
            ),
        )
        .order_by(n.name)
        .limit(limit)
    )
    return list(connection.execute(statement).mappings())


def start_rollout(connection: Connection, network_id: int, nodes: Iterable[str], version: int) -> None:
    """Forget what was said of older versions; these nodes are now to report `version`."""
    connection.execute(t.rollouts.delete().where(t.rollouts.c.network_id == network_id))
    _await(connection, network_id, nodes, version)


def start_removal(connection: Connection, network_id: int, version: int) -> list[str]:
    """Have every node that is ready remove the network, and report that as `version`; their names.

    All others are told when they are back, and nobody waits for them.
    """
    r, ready_now = t.rollouts.c, ready(connection)
    connection.execute(t.rollouts.delete().where(r.network_id == network_id, r.node.in_(ready_now)))
    connection.execute(update(t.rollouts).where(r.network_id == network_id).values(state="ready", error=None))
    _await(connection, network_id, ready_now, version)
    return ready_now


def removing(connection: Connection, network_id: int) -> int:
    """How many nodes have yet to remove the network. Of one that was declared off nothing is awaited."""
    r = t.rollouts.c
    statement = (
        select(func.count())
        .select_from(t.rollouts.join(t.nodes, t.nodes.c.name == r.node))
        .where(r.network_id == network_id, r.state.in_(_TO_REMOVE), t.nodes.c.state != "fenced")
    )
    return int(connection.execute(statement).scalar_one())


def removed(connection: Connection) -> list[str]:
    """The networks being deleted that no node has to remove any more, by name."""
    r, n = t.rollouts.c, t.networks.c
    left = (
        select(r.node)
        .join(t.nodes, t.nodes.c.name == r.node)
        .where(r.network_id == n.id, r.state.in_(_TO_REMOVE), t.nodes.c.state != "fenced")
    )
    statement = select(n.name).where(n.state == "deleting", ~left.exists()).order_by(n.name)
    return list(connection.execute(statement).scalars())


_TO_REMOVE = ("pending", "error")


def _await(connection: Connection, network_id: int, nodes: Iterable[str], version: int) -> None:
    rows = [
        {"network_id": network_id, "node": node, "version": version, "state": "pending", "error": None}
        for node in nodes
    ]
    if rows:
        connection.execute(t.rollouts.insert(), rows)


def note_reports(
    connection: Connection, network_id: int, version: int, reports: Sequence[NodeReport]
) -> None:
    """What nodes said of this version: at least one report, and one of each node."""
    rows = [
        {
            "network_id": network_id,
            "node": report.node,
            "version": version,
            "state": report.result,
            "error": report.error.model_dump(mode="json") if report.error is not None else None,
        }
        for report in sorted(reports, key=lambda report: report.node)
    ]
    statement = insert(t.rollouts).values(rows)
    changed = {name: statement.inserted[name] for name in ("version", "state", "error")}
    connection.execute(statement.on_duplicate_key_update(changed))


def give_up(connection: Connection, network_id: int, version: int, error: Mapping[str, Any]) -> None:
    """Note this error for all nodes that have not reported."""
    r = t.rollouts.c
    statement = update(t.rollouts).where(r.network_id == network_id, r.state == "pending")
    connection.execute(statement.values(version=version, state="error", error=error))


def page(connection: Connection, after: str, limit: int) -> list[RowMapping]:
    """One row more than the page of nodes, by name, with what is on each."""
    on_node = t.rollouts.c.node == t.nodes.c.name
    counts = [
        select(func.count())
        .select_from(t.rollouts)
        .where(on_node, t.rollouts.c.state == state)
        .scalar_subquery()
        .label(label)
        for state, label in (("ready", "ready"), ("error", "errors"))
    ]
    attached = (
        select(func.count(t.allocations.c.attachment_id.distinct()))
        .where(t.allocations.c.node == t.nodes.c.name, t.allocations.c.state == "attached")
        .scalar_subquery()
        .label("attached")
    )
    statement = select(t.nodes, *counts, attached).where(t.nodes.c.name > after)
    return list(connection.execute(statement.order_by(t.nodes.c.name).limit(limit + 1)).mappings())


def rollout_counts(connection: Connection, network_id: int) -> dict[str, int]:
    """How many nodes said what of the network."""
    r = t.rollouts.c
    statement = select(r.state, func.count()).where(r.network_id == network_id).group_by(r.state)
    return {state: count for state, count in connection.execute(statement)}


def rollout(connection: Connection, network_id: int) -> list[RowMapping]:
    """What each node said, by name."""
    statement = select(t.rollouts).where(t.rollouts.c.network_id == network_id)
    return list(connection.execute(statement.order_by(t.rollouts.c.node)).mappings())
