"""`node.heartbeat`, `node.sync`, `node.report`, `node.fence` and `node.remove`."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import RowMapping

from allocator import rollout
from allocator.handlers import attachments
from allocator.handlers.addresses import detach
from allocator.handlers.administrative import settled
from allocator.handlers.rollback import watched
from allocator.store import allocations, networks, nodes
from allocator.store.nodes import NodeSession
from allocator.views import utc
from allocator.work import Notice, Work
from broker.outcome import Delivery, Outcome, Reply
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.message import Done
from schemas.network import NetworkDefinition
from schemas.node import (
    DesiredNetwork,
    DesiredPage,
    Heartbeat,
    NodeFence,
    NodeFenced,
    NodeHeartbeat,
    NodeRemove,
    NodeReport,
    NodeSync,
    attachments_digest,
)

_FRESH = timedelta(seconds=10)
"""How old a heartbeat may be that a sync has nothing to add to: nodes send one every 10 s."""


def heartbeats(requests: Sequence[NodeHeartbeat], work: Work) -> list[Outcome]:
    """Note that these nodes live, all in one statement.

    A session that is not known, or not since a restore, gets no digest, so that it syncs; one that was
    fenced is told so and does not count as a sign of life.
    """
    known = watched(requests, work)
    alive = {r.node for r in requests if r.node in known and known[r.node].is_current(r.session)}
    back = {name for name in alive if known[name].state != "ready"}
    if back and work.paused:
        alive -= back  # after a restore a node counts once it has said what it has: it has to sync
        back.clear()
    for name in sorted(back):
        work.record_node("node.ready", name, f"node.{name}")
    nodes.seen(work.connection, alive, work.now)
    digest = nodes.present_digest(work.connection)
    has: defaultdict[str, set[UUID]] = defaultdict(set)
    for name, attachment_id in allocations.attachments_on(work.connection, alive):
        has[name].add(attachment_id)
    return [
        Reply(
            Heartbeat(
                database_time=utc(work.now),
                digest=digest if request.node in alive else "",
                attachments=attachments_digest(has[request.node]) if request.node in alive else "",
                fenced=request.node in known and known[request.node].fenced_session == request.session,
                epoch=work.epoch,
            )
        )
        for request in requests
    ]


def sync(request: NodeSync, delivery: Delivery, work: Work) -> Outcome:
    """Make the node known and ready, and tell it what it must have and what it must get rid of."""
    known = watched([request], work).get(request.node)
    fenced = known is not None and known.fenced_session == request.session
    if not fenced:
        _join(request, known, delivery.user_id, work)
    judged = attachments.judge(request, delivery.user_id, work)
    rows = nodes.desired(work.connection, request.node, request.after or "", request.limit + 1)
    shown = rows[: request.limit]
    return Reply(
        DesiredPage(
            database_time=utc(work.now),
            epoch=None if fenced else work.epoch,
            networks=tuple(
                DesiredNetwork(
                    network=row["name"],
                    version=row["version"],
                    state="present" if row["state"] in nodes.PRESENT else "absent",
                    definition=NetworkDefinition.model_validate(row["definition"])
                    if row["state"] in nodes.PRESENT
                    else None,
                )
                for row in shown
            ),
            next=shown[-1]["name"] if len(rows) > len(shown) else None,
            stale=judged.stale,
            unknown=judged.unknown,
            leftover=judged.leftover,
            peers=_peers(request, rows, work),
        )
    )


def _join(request: NodeSync, known: NodeSession | None, user_id: str, work: Work) -> None:
    """Note that the node is ready, unless that is known and a heartbeat has just said so.

    Nodes that all sync for the same news would else keep their rows locked, and heartbeats waiting.
    """
    before = known.address if known is not None else None
    address = request.address or before
    same = known is not None and known.state == "ready" and known.session == request.session
    fresh = known is not None and timedelta(0) <= work.now - known.last_seen < _FRESH
    if same and fresh and before == address:
        return
    nodes.join(work.connection, request.node, request.session, work.now, request.address)
    came_up = known is None or known.state == "fenced" or before != address
    if came_up and nodes.have_tunnels(work.connection):
        work.notices.extend(map(Notice, nodes.ready(work.connection)))
    if not same:
        work.record_node("node.ready", request.node, user_id, details={"session": str(request.session)})


def _peers(request: NodeSync, rows: Sequence[RowMapping], work: Work) -> tuple[IPAddress, ...] | None:
    """Where tunnels lead to, with a first page, if `rows`, which may go on behind it, have tunnels."""
    if request.after is not None or request.attachments is not None:
        return None
    have_tunnels = any(row["has_tunnels"] and row["state"] in nodes.PRESENT for row in rows)
    if not have_tunnels and len(rows) > request.limit:
        have_tunnels = nodes.have_tunnels(work.connection)
    return tuple(nodes.peers(work.connection)) if have_tunnels else None


def reports(deliveries: Sequence[Delivery], work: Work) -> list[Outcome]:
    """Note what nodes said of networks, of each network together; the last report settles its job."""
    said: defaultdict[str, list[tuple[NodeReport, str]]] = defaultdict(list)
    for delivery in deliveries:
        if isinstance(request := delivery.request, NodeReport):
            said[request.network].append((request, delivery.user_id))
    work.lock(sorted(said))
    for name, words in said.items():
        network = work.find_network(name)
        if network is not None:
            rollout.report(work, network, words)
    return [Reply(Done())] * len(deliveries)


def fence(request: NodeFence, delivery: Delivery, work: Work) -> Outcome:
    """Detach all that is attached on a node that a person declares off. Safe to repeat."""
    return settled(
        request, delivery, work, work.lock_system(), lambda: _fence(request, delivery.user_id, work)
    )


def _fence(request: NodeFence, user_id: str, work: Work) -> NodeFenced:
    known = nodes.sessions(work.connection, {request.node}).get(request.node)
    if known is None:
        raise _unknown(request.node)
    if known.session != request.session:
        return NodeFenced(node=request.node, session=known.session, fenced=False)
    held = allocations.on_node(work.connection, request.node)
    names = networks.names_by_id(work.connection, {row.network_id for row in held})
    work.lock(sorted(names.values()))
    held = [row for row in allocations.on_node(work.connection, request.node) if row.network_id in names]
    work.ledger.load(held)
    for row in held:
        detach(work, work.by_id(row.network_id), row, user_id, fenced=True, reason=request.reason)
    nodes.fence(work.connection, request.node, request.session)
    details = {"session": str(request.session), "reason": request.reason, "released": len(held)}
    work.record_node("node.fenced", request.node, user_id, details=details)
    return NodeFenced(node=request.node, session=request.session, fenced=True, released=len(held))


def remove(request: NodeRemove, delivery: Delivery, work: Work) -> Outcome:
    """Forget a node."""
    return settled(
        request, delivery, work, work.lock_system(), lambda: _remove(request, delivery.user_id, work)
    )


def _remove(request: NodeRemove, user_id: str, work: Work) -> Done:
    known = nodes.sessions(work.connection, {request.node}).get(request.node)
    if known is None:
        raise _unknown(request.node)
    if known.state == "ready":
        raise ServiceError(
            Code.NODE_IN_USE,
            f"node {request.node} is ready: stop its node worker first, and wait until it is lost",
            node=request.node,
        )
    held = allocations.on_node(work.connection, request.node)
    if held:
        raise ServiceError(
            Code.NODE_IN_USE,
            f"{len(held)} addresses are attached on node {request.node}, the first {held[0].address} to "
            f"{held[0].owner}. If the machine is off: `moorage node fence {request.node} --reason TEXT`",
            node=request.node,
            attached=len(held),
        )
    nodes.remove(work.connection, request.node)
    work.record_node("node.removed", request.node, user_id)
    return Done()


def _unknown(node: str) -> ServiceError:
    return ServiceError(
        Code.NODE_UNKNOWN, f"there is no node {node}; `moorage node list` shows those there are", node=node
    )
