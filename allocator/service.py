"""The allocator as the consumers see it: batches in, outcomes out, one transaction each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy import Connection

from allocator.database import Database
from allocator.handlers import addresses, auditing, deletion, networks, nodes, operating, pools, queries
from allocator.handlers.administrative import once
from allocator.loading import load_requests
from allocator.memory import Memory
from allocator.previewing import preview
from allocator.store import epochs
from allocator.venture import venture
from allocator.work import AfterCommit, Committed, Work
from broker.haste import Haste
from broker.outcome import Delivery, Outcome, Refused, Reply
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
from schemas.errors import ServiceError
from schemas.history import HistoryList
from schemas.message import Message, Request
from schemas.network import NetworkCreate, NetworkDelete, NetworkList, NetworkShow, NetworkUpdate
from schemas.node import NodeFence, NodeHeartbeat, NodeList, NodeRemove, NodeReport, NodeSync
from schemas.pool import PoolCreate, PoolDelete, PoolList, PoolResize, PoolUpdate
from schemas.tiles import AddressTiles

log = structlog.get_logger("moorage.allocator")

Handle = Callable[[Any, Delivery, Work], Outcome]

_IN_BULK: Mapping[type[Request], Handle] = {
    AddressAllocate: addresses.allocate,
    AddressRelease: addresses.release,
    AddressQuarantine: addresses.quarantine,
}
"""What is decided on rows that were read for all requests of a batch together."""

_ONE_BY_ONE: Mapping[type[Request], Handle] = {
    NetworkCreate: networks.create,
    NetworkUpdate: networks.update,
    NetworkDelete: deletion.delete,
    PoolCreate: once(pools.create),
    PoolResize: once(pools.resize),
    PoolUpdate: once(pools.update),
    PoolDelete: once(pools.delete),
    AddressReserve: once(operating.reserve),
    AddressRebind: once(operating.rebind),
    AddressReleaseByOperator: once(operating.release),
    NodeSync: nodes.sync,
    NodeFence: nodes.fence,
    NodeRemove: nodes.remove,
    AuditRecord: auditing.record,
}

_READS: Mapping[type[Request], Callable[[Any, Connection], Message]] = {
    NetworkList: queries.network_list,
    NetworkShow: queries.network_show,
    PoolList: queries.pool_list,
    AddressList: queries.address_list,
    AddressShow: queries.address_show,
    AddressMap: queries.address_map,
    AddressTiles: queries.address_tiles,
    NodeList: queries.node_list,
    HistoryList: queries.history_list,
}


class Allocator:
    """Applies requests to the database. `after_commit` hears of each committed batch."""

    def __init__(self, database: Database, after_commit: AfterCommit, reads: Database | None = None) -> None:
        """`reads` has an engine for reads, where queries are to cost no COMMIT."""
        self._database = database
        self._reads = reads
        self._after_commit = after_commit
        self._memory = Memory()
        self._haste = Haste()

    def apply(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """One transaction over all of `deliveries`, in order. Raises `Unavailable` (the database is away).

        A "no" is decided before its request has changed anything, so the others of the batch stand. Any
        other error takes the whole batch back; the consumer then brings its deliveries one by one. An empty
        batch shows whether the database takes writes.
        """

        def batch(connection: Connection) -> tuple[list[Outcome], Committed]:
            work = Work(connection, self._memory)
            if not deliveries:
                epochs.touch(connection)
            outcomes = list(_apply(deliveries, work))
            return outcomes, work.finish(keep_supplies=all(type(d.request) in _IN_BULK for d in deliveries))

        return self._after(*(venture(deliveries, self._memory, self._database) or self._database.run(batch)))

    def at_once(self, deliveries: Sequence[Delivery]) -> list[Outcome] | None:
        """As `apply`, for an event loop: new pods alone, while the database is there and quick.

        None, and nothing done, where `apply` has to serve them. Raises nothing.
        """
        if not self._database.is_ready or not self._haste.advisable:
            return None
        try:
            with self._haste.timed():
                served = venture(deliveries, self._memory, self._database)
            return self._after(*served) if served is not None else None
        except Exception:
            log.exception("not served at once")
            return None

    def _after(self, outcomes: list[Outcome], committed: Committed) -> list[Outcome]:
        for remembered in committed.remembered:
            self._memory.keep(remembered)
        committed.tell(self._after_commit)
        return outcomes

    def answer(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Answer queries."""
        run = self._database.run if self._reads is None else self._reads.read
        if any(isinstance(delivery.request, ReplayPreview) for delivery in deliveries):
            return [self._answer(delivery, run) for delivery in deliveries]
        return run(lambda connection: [_read(delivery, connection) for delivery in deliveries])

    def _answer(self, delivery: Delivery, run: Callable[..., Any]) -> Outcome:
        if isinstance(delivery.request, ReplayPreview):
            return Reply(preview(delivery.request, self._database, _apply))
        outcome: Outcome = run(lambda connection: _read(delivery, connection))
        return outcome


def _kind(delivery: Delivery) -> str:
    kind = type(delivery.request)
    if kind in _IN_BULK:
        return "bulk"
    return {NodeHeartbeat: "heartbeat", NodeReport: "report"}.get(kind, "single")


def _apply(deliveries: Sequence[Delivery], work: Work) -> Iterator[Outcome]:
    """In order; neighbours that can be served together are."""
    for kind, group in groupby(deliveries, _kind):
        run = list(group)
        if kind == "bulk":
            load_requests(work, [delivery.request for delivery in run])  # type: ignore[misc]
            yield from (_handle(_IN_BULK, delivery, work) for delivery in run)
            if len(run) < len(deliveries):  # else `finish` writes it, with all that is still to be written
                work.flush()
        elif kind == "heartbeat":
            yield from nodes.heartbeats([delivery.request for delivery in run], work)  # type: ignore[misc]
        elif kind == "report":
            yield from nodes.reports(run, work)
        else:
            for delivery in run:
                yield _handle(_ONE_BY_ONE, delivery, work)
                work.flush()  # what this one saw, also to refuse it, is not what the next one finds


def _handle(handlers: Mapping[type[Request], Handle], delivery: Delivery, work: Work) -> Outcome:
    try:
        return handlers[type(delivery.request)](delivery.request, delivery, work)
    except ServiceError as error:
        return Refused(error)


def _read(delivery: Delivery, connection: Connection) -> Outcome:
    try:
        return Reply(_READS[type(delivery.request)](delivery.request, connection))
    except ServiceError as error:
        return Refused(error)
