"""`node.heartbeat`, `node.sync` and `node.report`."""

from datetime import UTC

from allocator import rollout
from allocator.store import nodes
from allocator.work import Work
from broker.outcome import Delivery, Outcome, Reply
from schemas.message import Done
from schemas.network import NetworkDefinition
from schemas.node import (
    DesiredNetwork,
    DesiredPage,
    Heartbeat,
    NodeHeartbeat,
    NodeReport,
    NodeSync,
    desired_digest,
)


def heartbeat(request: NodeHeartbeat, delivery: Delivery, work: Work) -> Outcome:  # noqa: ARG001
    """Note that the node lives. A session that is not known gets no digest, so that it syncs."""
    known = nodes.seen(work.connection, request.node, request.session, work.now)
    versions = [(row.name, row.version) for row in nodes.present_versions(work.connection)]
    return Reply(
        Heartbeat(
            database_time=work.now.replace(tzinfo=UTC), digest=desired_digest(versions) if known else ""
        )
    )


def sync(request: NodeSync, delivery: Delivery, work: Work) -> Outcome:  # noqa: ARG001
    """Make the node known and ready, and tell it what it must have and what it must get rid of."""
    nodes.join(work.connection, request.node, request.session, work.now)
    rows = nodes.desired(work.connection, request.node, request.after or "", request.limit + 1)
    shown = rows[: request.limit]
    return Reply(
        DesiredPage(
            database_time=work.now.replace(tzinfo=UTC),
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
        )
    )


def report(request: NodeReport, delivery: Delivery, work: Work) -> Outcome:
    """Note what the node said of one version of one network; the last report settles the job."""
    network = work.find_network(request.network)
    if network is not None:
        rollout.report(work, network, request, delivery.user_id)
    return Reply(Done())
