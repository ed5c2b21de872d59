"""Which rule each request is judged by."""

from broker.outcome import Delivery, Outcome
from schemas.address import (
    AddressAllocate,
    AddressQuarantine,
    AddressRebind,
    AddressRelease,
    AddressReleaseByOperator,
    AddressReserve,
)
from schemas.message import Request
from schemas.network import NetworkUpdate
from schemas.node import NodeFence, NodeHeartbeat, NodeSync
from schemas.pool import PoolCreate, PoolDelete, PoolResize, PoolUpdate
from tests.promised import attaching, noding, operating, pooling
from tests.promised.book import Book, Rule

RULES: dict[type[Request], Rule] = {
    AddressAllocate: attaching.allocate,
    AddressRelease: attaching.release,
    AddressQuarantine: attaching.quarantine,
    AddressReserve: operating.reserve,
    AddressRebind: operating.rebind,
    AddressReleaseByOperator: operating.release_by_operator,
    PoolCreate: pooling.create,
    PoolResize: pooling.resize,
    PoolUpdate: pooling.update,
    PoolDelete: pooling.delete,
    NetworkUpdate: pooling.network_update,
    NodeSync: noding.sync,
    NodeHeartbeat: noding.heartbeat,
    NodeFence: noding.fence,
}


def enter(book: Book, delivery: Delivery, outcome: Outcome) -> None:
    """Enter one outcome into the book. Fails where it is not right."""
    book.enter(delivery, outcome, RULES[type(delivery.request)])
