"""Every request there is, by name, and who may send it."""

import re
from collections.abc import Mapping
from typing import Literal

from schemas.address import (
    AddressAllocate,
    AddressList,
    AddressMap,
    AddressQuarantine,
    AddressRebind,
    AddressRelease,
    AddressReleaseByOperator,
    AddressReserve,
    AddressShow,
)
from schemas.dead import AuditRecord, ReplayPreview
from schemas.history import HistoryList
from schemas.message import Query, Request
from schemas.network import NetworkCreate, NetworkDelete, NetworkList, NetworkShow, NetworkUpdate
from schemas.node import NodeFence, NodeHeartbeat, NodeList, NodeRemove, NodeReport, NodeSync
from schemas.pool import PoolCreate, PoolDelete, PoolList, PoolResize, PoolUpdate
from schemas.tiles import AddressTiles

_ALL: tuple[type[Request], ...] = (
    NetworkCreate,
    NetworkUpdate,
    NetworkDelete,
    PoolCreate,
    PoolResize,
    PoolUpdate,
    PoolDelete,
    AddressAllocate,
    AddressRelease,
    AddressQuarantine,
    AddressReserve,
    AddressRebind,
    AddressReleaseByOperator,
    NodeSync,
    NodeHeartbeat,
    NodeReport,
    NodeFence,
    NodeRemove,
    AuditRecord,
    NetworkList,
    NetworkShow,
    PoolList,
    AddressList,
    AddressShow,
    AddressMap,
    AddressTiles,
    NodeList,
    HistoryList,
    ReplayPreview,
)

REQUESTS: Mapping[str, type[Request]] = {request.NAME: request for request in _ALL}
QUERIES = frozenset(name for name, request in REQUESTS.items() if issubclass(request, Query))
HEARTBEAT = NodeHeartbeat.NAME

Role = Literal["node", "producer", "operator", "console"]

_OWN = frozenset({"address.allocate", "address.release", "address.quarantine", "node.report"})
_NODE = _OWN | {"node.sync", "node.heartbeat"}
_NETWORKS = frozenset({"network.create", "network.update", "network.delete"})
_POOLS = frozenset({"pool.create", "pool.resize", "pool.update", "pool.delete"})
_PRODUCER = _NETWORKS | _POOLS | {"address.reserve", "address.rebind"} | (QUERIES - {ReplayPreview.NAME})
_OPERATING = frozenset({"address.release_by_operator", "node.fence", "node.remove"})
_DEAD_LETTERS = frozenset({AuditRecord.NAME, ReplayPreview.NAME})
_OPERATOR = _PRODUCER | _OPERATING | _DEAD_LETTERS | _OWN

MAY_SEND: Mapping[Role, frozenset[str]] = {
    "node": _NODE,
    "producer": _PRODUCER,
    "operator": _OPERATOR,
    "console": _OPERATOR,
}
"""Who may send what (DESIGN section 4). Operators send a node's requests only to replay them."""

REPLAYERS: frozenset[Role] = frozenset({"operator", "console"})
"""Who may replay dead letters."""

_USER = re.compile(r"(node|producer|operator|console)\.(.+)")


def why_not(user_id: str, name: str) -> str | None:
    """Why this user may not send a request of this name; None where it may."""
    known = sender(user_id)
    if known is None:
        return (
            f"user {user_id} has no role; enroll it with `moorage client enroll NAME --role producer` or "
            "`moorage node enroll NAME`"
        )
    allowed = MAY_SEND[known[0]]
    if name not in allowed:
        return f"user {user_id} may not send {name}: a {known[0]} may send {', '.join(sorted(allowed))}"
    return None


def sender(user_id: str) -> tuple[Role, str] | None:
    """The role and the name in a user such as `node.worker-1`; None for a user that is none of ours."""
    match = _USER.fullmatch(user_id)
    return (match[1], match[2]) if match else None  # type: ignore[return-value]
