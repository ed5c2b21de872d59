"""A database that does not know what it told a node: it was restored from a backup, and nobody said so.

Whoever forgets `moorage db restored` would have the allocator give out addresses that pods have by now. Each
node tells in which epoch and when it was answered last; its row must have been written then.
"""

from collections.abc import Sequence
from datetime import UTC, timedelta

import structlog

from allocator.store import epochs, nodes
from allocator.store.nodes import NodeSession
from allocator.work import Work
from schemas.node import Heard, NodeHeartbeat, NodeSync

_SLACK = timedelta(seconds=30)
"""How much older a node's row may be than what the node heard: transactions overtake one another, and a
clock may be set back between an answer and the next."""
_USER = "allocator"

log = structlog.get_logger("moorage.allocator")


def watched(requests: Sequence[NodeHeartbeat] | Sequence[NodeSync], work: Work) -> dict[str, NodeSession]:
    """What is known of these nodes; the database is declared restored first where they show that it was."""
    names = {request.node for request in requests}
    known = nodes.sessions(work.connection, names)
    for request in requests:
        if request.heard is not None and went_back(request.heard, known.get(request.node), work.epoch):
            _declare(request.node, request.heard, work)
            return nodes.sessions(work.connection, names)
    return known


def went_back(heard: Heard, known: NodeSession | None, epoch: int) -> bool:
    """Whether a database in this epoch, which knows this of the node, has lost what it told it.

    What was heard in an older epoch was lost by a restore that was declared. A node without a row may have
    been removed by an operator.
    """
    if heard.epoch != epoch:
        return heard.epoch > epoch
    return known is not None and known.last_seen.replace(tzinfo=UTC) + _SLACK < heard.at


def _declare(node: str, heard: Heard, work: Work) -> None:
    """As `moorage db restored`, unless another allocator was faster."""
    before = work.epoch
    if epochs.begin_after(work.connection, before, heard.epoch):
        work.forget_epoch()
        nodes.mark_all_lost(work.connection)
        details = {"heard_epoch": heard.epoch, "heard_at": heard.at.isoformat(), "epoch_before": before}
        work.record_node("database.rolled_back", node, _USER, details=details)
        log.error(
            "the database does not know what it told a node: it was restored from a backup, and the "
            "allocator is paused",
            node=node,
            heard_at=heard.at.isoformat(),
            epoch=work.epoch,
            advice="wait until `moorage node list` shows those ready that are on, then `moorage db resume`",
        )
    work.forget_epoch()
