"""Which Nodes Kubernetes says are off, and when Moorage may believe it. Pure.

To fence a node that runs is the worst that can happen here: its pods go on with addresses that others get.
So what counts as evidence is narrow, and both sides must agree.

What Kubernetes says
  - The Node has the taint `node.kubernetes.io/out-of-service`, which people and fencing agents put there
    after they cut the machine's power, and it is not Ready. (Kubernetes itself asks for both before it
    takes such a node's pods and volumes away: pkg/controller/podgc.)
  - Or the Node was deleted: the watch told, or it was in one list and is missing from a later one.
What Moorage says
  - The node is `lost`: it has sent no heartbeat for long enough. A node that is heard is never fenced, it
    is waited for, whatever Kubernetes says of it.
  - And it stays lost for another two heartbeats while Moorage answers: after a restored backup, or once a
    broker is back, nodes that are well count as lost until they are heard again.

What does not count
  - A Node that is merely NotReady, cordoned, or has another taint.
  - A node that Kubernetes never listed here: it may belong to another cluster, or to none. So a Node that
    was deleted while nobody watched is not fenced either: a person has to, with `moorage node fence`.
  - A Node that is listed again by the time that its deletion would be acted on.
  - A list that lacks more than half of the Nodes at once: more likely another cluster, or one that was
    restored from a backup, than so many machines gone.
  - A statement about an earlier life. It is about the session that the node had when it was made: once the
    node is back under another one, or its Node was Ready again, the statement is spent, and a taint that
    was forgotten says nothing until it is taken away and put again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from schemas.node import NodeFence, NodeView

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
ACTOR = "kubernetes"
"""Whom history names as having asked: nobody but the cluster did."""

CONFIRMED_AFTER_S = 20.0
"""How long a node must be seen to stay lost: two heartbeats, in seconds."""

_TAINTED = f"its Node in Kubernetes has the taint {OUT_OF_SERVICE}"
_DELETED = "its Node was deleted from Kubernetes"


@dataclass(frozen=True)
class KubernetesNode:
    """What counts of a Node."""

    name: str
    uid: str
    ready: bool
    out_of_service: bool


@dataclass(frozen=True)
class Record:
    """What was seen of a Node so far. `uid` names the object: one made anew has another.

    `session` is the life of the node that a statement about it is about, and before there is one, the
    latest that is known. `lost_since` is when Moorage first said so without a break, in seconds of a
    monotonic clock. `spent`: what is said now was acted on, or turned out to be about an earlier life.
    """

    name: str
    uid: str
    ready: bool
    out_of_service: bool
    deleted: bool = False
    session: UUID | None = None
    lost_since: float | None = None
    spent: bool = False

    @property
    def reason(self) -> str | None:
        """Why the node is to be taken for off; None while nothing says so."""
        if self.deleted:
            return _DELETED
        return _TAINTED if self.out_of_service and not self.ready else None

    @property
    def is_due(self) -> bool:
        """Whether there is a statement that was not acted on yet."""
        return self.reason is not None and not self.spent


Records = Mapping[str, Record]


def read_node(item: Mapping[str, Any]) -> KubernetesNode:
    """What counts of a Node as the API tells it. One whose condition is not known counts as Ready."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    said = [each.get("status") for each in status.get("conditions") or () if each.get("type") == "Ready"]
    return KubernetesNode(
        name=metadata["name"],
        uid=str(metadata.get("uid") or ""),
        ready=not said or said[0] == "True",
        out_of_service=any(taint.get("key") == OUT_OF_SERVICE for taint in spec.get("taints") or ()),
    )


def seen(records: Records, node: KubernetesNode) -> Records:
    """After the Node was listed, added or modified."""
    return {**records, node.name: _seen(records.get(node.name), node)}


def _seen(known: Record | None, node: KubernetesNode) -> Record:
    if known is None or known.uid != node.uid:
        session = known.session if known is not None else None
        return Record(node.name, node.uid, node.ready, node.out_of_service, session=session)
    came_back = node.ready and not known.ready
    return replace(
        known,
        ready=node.ready,
        out_of_service=node.out_of_service,
        deleted=False,
        spent=node.out_of_service and known.out_of_service and (known.spent or came_back),
    )


def deleted(records: Records, name: str) -> Records:
    """After the Node was deleted. One that was never seen is not taken note of."""
    known = records.get(name)
    if known is None or known.deleted:
        return records
    return {**records, name: replace(known, deleted=True, spent=False)}


def relisted(records: Records, nodes: Iterable[KubernetesNode]) -> tuple[Records, bool]:
    """After all Nodes were listed, and whether the list can be believed.

    One that lacks more than half of those that were there is the beginning of other records: nothing is
    concluded from what it lacks.
    """
    listed = {node.name: node for node in nodes}
    present = [name for name, record in records.items() if not record.deleted]
    missing = [name for name in present if name not in listed]
    believed = 2 * len(missing) <= len(present)
    found = dict(records) if believed else {}
    for name in missing if believed else ():
        found[name] = replace(found[name], deleted=True, spent=False)
    for name, node in listed.items():
        found[name] = _seen(found.get(name), node)
    return found, believed


def unheard(records: Records) -> Records:
    """After Moorage did not answer: that it said lost before counts no more."""
    return {name: replace(record, lost_since=None) for name, record in records.items()}


def judge(
    record: Record, view: NodeView | None, now: float, confirmed_after_s: float = CONFIRMED_AFTER_S
) -> tuple[Record, NodeFence | None]:
    """What becomes of a Node's record, and the request to send, if any, with Moorage's view of `now`.

    `now` is in seconds of a monotonic clock. `view` is None where Moorage does not know such a node.
    """
    if view is None:
        return replace(record, session=None, lost_since=None, spent=record.spent or record.is_due), None
    lost_since = None if view.state != "lost" else now if record.lost_since is None else record.lost_since
    record = replace(record, lost_since=lost_since)
    if not record.is_due:
        return replace(record, session=view.session), None
    meant = record.session or view.session
    if view.session != meant or view.state == "fenced":
        return replace(record, session=view.session, spent=True), None
    record = replace(record, session=meant)
    if lost_since is None or now - lost_since < confirmed_after_s or record.reason is None:
        return record, None
    return record, NodeFence(
        request_id=request_id(view.node, meant),
        actor=ACTOR,
        node=view.node,
        session=meant,
        reason=record.reason,
    )


def done(record: Record) -> Record:
    """After the request was answered."""
    return replace(record, spent=True)


def request_id(node: str, session: UUID) -> str:
    """One name for fencing this life of the node, whoever asks for it and however often."""
    return f"fence-{uuid5(NAMESPACE_URL, f'moorage:node.fence:{node}:{session}')}"
