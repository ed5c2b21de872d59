"""A network's way onto every node and back: what each node reports, and when the job is settled.

    creating --all ready--> active
    creating --a node refused, or the deadline passed--> deleting --all removed, or the deadline--> deleted
    the same, where the create is to keep going--> active, or failed where no node has it
    failed --a node has it--> active
    active, failed --updated--> the same, as another version that the nodes report on
    active, failed --deleted--> deleting --all removed--> deleted

The answer of a failed create is stored when it fails and sent once the other nodes have taken it back. What
was ever in use is `deleting` for as long as a node may still have it: nobody gets its addresses anew before.
"""

from collections.abc import Sequence
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


def report(work: Work, network: Network, said: Sequence[tuple[NodeReport, str]]) -> None:
    """Note what nodes said, and as which users, in this order: the last word of each counts.

    A report of another version than the current one says nothing any more.
    """
    current = [(request, user_id) for request, user_id in said if request.version == network.version]
    if current:
        last_words = {request.node: request for request, _ in current}
        nodes.note_reports(work.connection, network.id, network.version, list(last_words.values()))
        settle(work, network, current[-1][1])


def settle(work: Work, network: Network, user_id: str) -> None:
    """Move the network on if no node is awaited any more."""
    if network.state == "deleting" and not _is_rollback(work, network):
        if nodes.removing(work.connection, network.id) == 0:
            _finish_removal(work, network, user_id)
        return
    counts = nodes.rollout_counts(work.connection, network.id)
    if network.state == "failed" and counts.get("ready"):
        network = _activate(work, network, user_id)
    if counts.get("pending"):
        return
    if network.state == "deleting":
        _finish_removal(work, network, user_id)
    elif network.state in ("active", "failed"):
        _answer_jobs(work, network)
    elif network.state == "creating":
        _end_creation(work, network, user_id)


def expire(work: Work, network: Network, user_id: str) -> None:
    """The job's deadline passed: the nodes that are still awaited count as failed."""
    if network.state == "deleting":
        if _is_rollback(work, network):
            _finish_removal(work, network, user_id)
        else:
            _answer_jobs(work, network)
        return
    error = ErrorBody(
        code=Code.TIMEOUT,
        message="did not report in time; see `moorage node list` and the node worker's log",
        retryable=True,
    )
    nodes.give_up(work.connection, network.id, network.version, error.model_dump(mode="json"))
    settle(work, network, user_id)


def take_back(work: Work, network: Network) -> None:
    """Have every node remove a network that was in use; those that are away, when they come back."""
    version = work.next_version(network.version)
    networks.set_state(work.connection, network.id, "deleting", version, work.now)
    names = nodes.start_removal(work.connection, network.id, version)
    _notify(work, work.reload(network.name), names)


def _is_rollback(work: Work, network: Network) -> bool:
    """Whether the network is taken back because its create failed: no pod was ever on it."""
    return requests.is_answered(work.connection, network.id)


def _end_creation(work: Work, network: Network, user_id: str) -> None:
    results = node_results(work.connection, network.id)
    failures = [result for result in results if result.state == "error"]
    if failures and not requests.keeps_going(work.connection, network.id):
        _roll_back(work, network, results, user_id)
    elif failures and len(failures) == len(results):
        networks.set_state(work.connection, network.id, "failed", network.version, work.now)
        details = {"kept": True, "nodes": [result.model_dump(mode="json") for result in results]}
        work.record(network.id, "network.failed", user_id, details=details)
        _answer_jobs(work, work.reload(network.name))
    else:
        _answer_jobs(work, _activate(work, network, user_id))


def _activate(work: Work, network: Network, user_id: str) -> Network:
    networks.set_state(work.connection, network.id, "active", network.version, work.now)
    work.record(network.id, "network.active", user_id)
    return work.reload(network.name)


def _answer_jobs(work: Work, network: Network) -> None:
    """Tell whoever waits for the network how each node took it. Nodes that failed try again."""
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


def _finish_removal(work: Work, network: Network, user_id: str) -> None:
    """Leave the tombstone: name, version and history. Nodes that were away still get told to remove it."""
    networks.clear(work.connection, network.id)
    networks.set_state(work.connection, network.id, "deleted", network.version, work.now)
    work.record(network.id, "network.deleted", user_id)
    work.answered = True
    work.forget(network.name)
    tombstone = work.find_network(network.name)
    assert tombstone is not None  # noqa: S101  its row stays for good
    requests.close(work.connection, network.id, succeeded(network_view(work.connection, tombstone)))


def _notify(work: Work, network: Network, names: list[str]) -> None:
    work.notices.extend(Notice(name, network.name, network.version) for name in names)
