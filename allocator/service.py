"""The allocator as the consumers see it: batches in, outcomes out, one transaction each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from allocator.database import Database
from allocator.handlers import addresses, networks, nodes, pools, queries
from allocator.store import epochs
from allocator.work import Notice, Work
from broker.outcome import Delivery, Outcome, Refused, Reply
from schemas.address import AddressAllocate, AddressList, AddressRelease, AddressShow
from schemas.errors import ServiceError
from schemas.history import HistoryList
from schemas.message import Message, Request
from schemas.network import NetworkCreate, NetworkList, NetworkShow
from schemas.node import NodeHeartbeat, NodeList, NodeReport, NodeSync
from schemas.pool import PoolCreate, PoolList

_CHANGES: Mapping[type[Request], Callable[[Any, Delivery, Work], Outcome]] = {
    NetworkCreate: networks.create,
    PoolCreate: pools.create,
    AddressAllocate: addresses.allocate,
    AddressRelease: addresses.release,
    NodeSync: nodes.sync,
    NodeReport: nodes.report,
    NodeHeartbeat: nodes.heartbeat,
}

_READS: Mapping[type[Request], Callable[[Any, Connection], Message]] = {
    NetworkList: queries.network_list,
    NetworkShow: queries.network_show,
    PoolList: queries.pool_list,
    AddressList: queries.address_list,
    AddressShow: queries.address_show,
    NodeList: queries.node_list,
    HistoryList: queries.history_list,
}


class Allocator:
    """Applies requests to the database. `after_commit` gets the notices of each committed batch."""

    def __init__(self, database: Database, after_commit: Callable[[Sequence[Notice]], None]) -> None:
        self._database = database
        self._after_commit = after_commit

    def apply(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """One transaction over all of `deliveries`, in order. Raises `Unavailable` (the database is away).

        A "no" is decided before its request has written anything, so the others of the batch stand. Any
        other error takes the whole batch back; the consumer then brings its deliveries one by one. An empty
        batch shows whether the database takes writes.
        """

        def batch(connection: Connection) -> tuple[list[Outcome], list[Notice]]:
            work = Work(connection)
            if not deliveries:
                epochs.touch(connection)
            outcomes = [_change(delivery, work) for delivery in deliveries]
            work.finish()
            return outcomes, work.notices

        outcomes, notices = self._database.run(batch)
        self._after_commit(notices)
        return outcomes

    def answer(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Answer queries."""
        return self._database.run(lambda connection: [_read(delivery, connection) for delivery in deliveries])


def _change(delivery: Delivery, work: Work) -> Outcome:
    try:
        return _CHANGES[type(delivery.request)](delivery.request, delivery, work)
    except ServiceError as error:
        return Refused(error)


def _read(delivery: Delivery, connection: Connection) -> Outcome:
    try:
        return Reply(_READS[type(delivery.request)](delivery.request, connection))
    except ServiceError as error:
        return Refused(error)
