"""Every request there is, by name, and who may send it."""

import re
from collections.abc import Mapping
from typing import Literal

from schemas.address import AddressAllocate, AddressList, AddressRelease, AddressShow
from schemas.history import HistoryList
from schemas.message import Query, Request
from schemas.network import NetworkCreate, NetworkList, NetworkShow
from schemas.node import NodeHeartbeat, NodeList, NodeReport, NodeSync
from schemas.pool import PoolCreate, PoolList

_ALL: tuple[type[Request], ...] = (
    NetworkCreate,
    PoolCreate,
    AddressAllocate,
    AddressRelease,
    NodeSync,
    NodeHeartbeat,
    NodeReport,
    NetworkList,
    NetworkShow,
    PoolList,
    AddressList,
    AddressShow,
    NodeList,
    HistoryList,
)

REQUESTS: Mapping[str, type[Request]] = {request.NAME: request for request in _ALL}
QUERIES = frozenset(name for name, request in REQUESTS.items() if issubclass(request, Query))
HEARTBEAT = NodeHeartbeat.NAME

Role = Literal["node", "producer", "operator", "console"]

_NODE = frozenset({"address.allocate", "address.release", "node.sync", "node.heartbeat", "node.report"})
_PRODUCER = frozenset({"network.create", "pool.create"}) | QUERIES
_OPERATOR = _PRODUCER | {"address.allocate", "address.release", "node.report"}

MAY_SEND: Mapping[Role, frozenset[str]] = {
    "node": _NODE,
    "producer": _PRODUCER,
    "operator": _OPERATOR,
    "console": _OPERATOR,
}
"""Who may send what (DESIGN section 4). Operators send a node's requests only to replay them."""

_USER = re.compile(r"(node|producer|operator|console)\.(.+)")


def sender(user_id: str) -> tuple[Role, str] | None:
    """The role and the name in a user such as `node.worker-1`; None for a user that is none of ours."""
    match = _USER.fullmatch(user_id)
    return (match[1], match[2]) if match else None  # type: ignore[return-value]
