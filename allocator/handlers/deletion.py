"""`network.delete`: refused while somebody holds addresses, then a job that waits for the nodes."""

from allocator import rollout
from allocator.handlers.administrative import check_version, earlier, failed
from allocator.handlers.networks import add_job
from allocator.model import Network
from allocator.store import allocations, requests
from allocator.work import Notice, Work
from broker.outcome import DEFERRED, Delivery, Outcome
from schemas.errors import Code, ServiceError
from schemas.network import NetworkDelete

_TOLD = 20


def delete(request: NetworkDelete, delivery: Delivery, work: Work) -> Outcome:
    """Begin to take the network away, or join those who wait until it is."""
    network = work.network(request.network)
    known = earlier(request, delivery, work)
    if known is not None:
        return known
    if network.state == "creating":
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"network {network.name} is being created; delete it once its nodes have reported "
            f"(`moorage network show {network.name}`)",
            network=network.name,
            state=network.state,
        )
    if network.state != "deleting":
        check_version(f"network {network.name}", network.version, request.expected_version)
        _check_unheld(work, network, force=request.force)
        _begin(request, delivery, work, network)
    add_job(request, delivery, work, network.id, requests.open_deadline(work.connection, network.id))
    rollout.settle(work, work.reload(network.name), delivery.user_id)
    return DEFERRED


def _begin(request: NetworkDelete, delivery: Delivery, work: Work, network: Network) -> None:
    gone = ServiceError(
        Code.NETWORK_UNKNOWN,
        f"network {network.name} was deleted before its nodes had reported",
        network=network.name,
    )
    requests.settle(work.connection, network.id, failed(gone), deadline=None)  # an update that waits
    work.answered = True
    work.actor = request.actor
    details = {"forced": request.force} | ({"reason": request.reason} if request.reason else {})
    holding = allocations.attached_nodes(work.connection, network.id)
    work.record(network.id, "network.deleting", delivery.user_id, details=details)
    work.release_all(network, delivery.user_id, details)
    work.actor = None
    work.notices.extend(Notice(node) for node in holding)
    rollout.take_back(work, network)


def _check_unheld(work: Work, network: Network, *, force: bool) -> None:
    """Raise `network_in_use` where addresses are held, or where force would not reach who holds them."""
    counts = allocations.count_held(work.connection, network.id)
    attached, waiting = counts.get("attached", 0), counts.get("waiting", 0)
    if attached + waiting == 0:
        return
    if force:
        _check_reachable(work, network)
        return
    held = allocations.held_in(work.connection, network.id, _TOLD)
    told = ", ".join(f"{row.address} {row.owner}" for row in held[:5])
    raise ServiceError(
        Code.NETWORK_IN_USE,
        f"network {network.name} has {attached} attached addresses and {waiting} that wait for their owners: "
        f"{told}{' ...' if attached + waiting > 5 else ''}. Delete those pods and release what waits "
        f"(`moorage address list {network.name}`), or repeat with --force and a reason",
        network=network.name,
        attached=attached,
        waiting=waiting,
        holders=[
            {"address": str(row.address), "owner": row.owner, "state": row.state, "node": row.node}
            for row in held
        ],
    )


def _check_reachable(work: Work, network: Network) -> None:
    """Pods on a node that is not heard of would go on with addresses that others may get."""
    away = [
        node
        for node, state in allocations.attached_nodes(work.connection, network.id).items()
        if state == "lost"
    ]
    if away:
        raise ServiceError(
            Code.NETWORK_IN_USE,
            f"pods of network {network.name} are attached on nodes that are lost: {', '.join(away[:5])}"
            f"{' ...' if len(away) > 5 else ''}. Bring them back, or declare them off "
            f"(`moorage node fence {away[0]} --reason TEXT`), then delete the network",
            network=network.name,
            nodes=away[:_TOLD],
        )
