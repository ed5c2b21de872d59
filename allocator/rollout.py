"""A network's way onto every node and back: what each node reports, and when the job is settled.

    creating --all ready--> active
    creating --a node refused, or the deadline passed--> deleting --all removed, or the deadline--> deleted
    active --updated--> active, as another version that the nodes report on

The answer of a failed create is stored when it fails and sent once the other nodes have taken it back.
"""

from datetime import timedelta

from allocator.handlers.administrative import failed, succeeded
from allocator.model import Network
from allocator.store import networks, nodes, requests
from allocator.views import network_view, node_results
from allocator.work import Notice, Work
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.network import NodeResult
from schemas.node import NodeReport

_CAUSES_TOLD = 5
_ROLLBACK_S = 20
"""How long the answer of a failed create waits for the nodes to take the network back, in seconds."""


def start(work: Work, network: Network, user_id: str) -> None:
    """Ask every ready node for this version of the network."""
    names = nodes.ready(work.connection)
    nodes.start_rollout(work.connection, network.id, names, network.version)
    _notify(work, network, names)
    settle(work, network, user_id)


def report(work: Work, network: Network, request: NodeReport, user_id: str) -> None:
    """Note what a node said. A report of another version than the current one says nothing any more."""
    if request.version != network.version:
        return
    error = request.error.model_dump(mode="json") if request.error is not None else None
    nodes.note_report(
        work.connection,
        network.id,
        request.node,
        version=request.version,
        state=request.result,
        error=error,
    )
    settle(work, network, user_id)


def settle(work: Work, network: Network, user_id: str) -> None:
    """Move the network on if no node is awaited any more."""
    if network.state not in ("creating", "active", "deleting"):
        return
    results = node_results(work.connection, network.id)
    if any(result.state == "pending" for result in results):
        return
    if network.state == "deleting":
        _finish_rollback(work, network, user_id)
    elif network.state == "active":
        _answer_update(work, network)
    elif any(result.state == "error" for result in results):
        _roll_back(work, network, results, user_id)
    else:
        _activate(work, network, user_id)


def expire(work: Work, network: Network, user_id: str) -> None:
    """The job's deadline passed: the nodes that are still awaited count as failed."""
    if network.state == "deleting":
        _finish_rollback(work, network, user_id)
        return
    error = ErrorBody(
        code=Code.TIMEOUT,
        message="did not report in time; see `moorage node list` and the node worker's log",
        retryable=True,
    )
    for result in node_results(work.connection, network.id):
        if result.state == "pending":
            nodes.note_report(
                work.connection,
                network.id,
                result.node,
                version=network.version,
                state="error",
                error=error.model_dump(mode="json"),
            )
    settle(work, network, user_id)


def _activate(work: Work, network: Network, user_id: str) -> None:
    networks.set_state(work.connection, network.id, "active", network.version, work.now)
    work.record(network.id, "network.active", user_id)
    active = work.reload(network.name)
    answer = succeeded(network_view(work.connection, active))
    work.answered = True
    requests.settle(work.connection, network.id, answer, deadline=None)


def _answer_update(work: Work, network: Network) -> None:
    """Tell whoever changed a live network how each node took it. Nodes that failed try again."""
    if requests.open_deadline(work.connection, network.id) is not None:
        answer = succeeded(network_view(work.connection, network))
        work.answered = True
        requests.settle(work.connection, network.id, answer, deadline=None)


def _roll_back(work: Work, network: Network, results: tuple[NodeResult, ...], user_id: str) -> None:
    """Take the network back everywhere, also from nodes that refused it: they may have made a part of it."""
    refused = [result for result in results if result.state == "error"]
    causes = [f"{r.node}: {r.error.code}: {r.error.message}" for r in refused if r.error is not None]
    told = "; ".join(causes[:_CAUSES_TOLD])
    if len(causes) > _CAUSES_TOLD:
        told += f"; and {len(causes) - _CAUSES_TOLD} more"
    listed = [result.model_dump(mode="json") for result in results]
    error = ServiceError(
        Code.ROLLOUT_FAILED,
        f"network {network.name} was taken back from all nodes because {len(refused)} of {len(results)} "
        f"could not make it: {told}. Mend this and create it again",
        nodes=listed,
    )
    deadline = work.now + timedelta(seconds=_ROLLBACK_S)
    work.answered = True
    requests.settle(work.connection, network.id, failed(error), deadline)
    version = work.next_version(network.version)
    networks.set_state(work.connection, network.id, "deleting", version, work.now)
    work.record(network.id, "network.failed", user_id, details={"nodes": listed})
    names = [result.node for result in results]
    nodes.start_rollout(work.connection, network.id, names, version)
    _notify(work, work.reload(network.name), names)


def _finish_rollback(work: Work, network: Network, user_id: str) -> None:
    """Leave the tombstone: name, version and history. Nodes that were away still get told to remove it."""
    networks.clear(work.connection, network.id)
    networks.set_state(work.connection, network.id, "deleted", network.version, work.now)
    work.record(network.id, "network.deleted", user_id)
    work.answered = True
    requests.close(work.connection, network.id)
    work.forget(network.name)


def _notify(work: Work, network: Network, names: list[str]) -> None:
    work.notices.extend(Notice(name, network.name, network.version) for name in names)
