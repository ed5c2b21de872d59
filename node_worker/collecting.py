"""GC: ends attachments of one configuration that the runtime does not list any more (SPEC, section 2, GC).

Two lists must not cost a live pod its address. One made before an ADD ended does not have that pod: so an
attachment that is new is left to a later GC. And an empty one may come from a runtime that has no list yet:
then only those go whose pod's namespace is gone with all that was in it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from uuid import UUID

import structlog

from broker.threads import Threads
from cni.netconf import ValidAttachment
from node_worker import attachments
from node_worker.attachments import Attachment, State
from node_worker.host import Host
from node_worker.journal import Journal
from node_worker.teardown import Teardown
from schemas.errors import ServiceError

NEW_S = 120.0
"""For how long an attachment is new, in seconds. libcni makes its list and then calls plugin by plugin."""

log = structlog.get_logger("moorage.node")


class Collector:
    """Ends what GC may end. Safe to call beside DEL and ADD of the same containers."""

    def __init__(self, journal: Journal, host: Host, threads: Threads, teardown: Teardown) -> None:
        self._journal = journal
        self._host = host
        self._threads = threads
        self._teardown = teardown
        self._under_way: set[UUID] = set()
        self._ended: dict[UUID, float] = {}  # in the order in which their ADDs ended

    @contextmanager
    def sheltered(self, attachment_id: UUID) -> Iterator[None]:
        """Its ADD is under way in here; from the end on it is new for a while."""
        self._under_way.add(attachment_id)
        try:
            yield
        finally:
            self._under_way.discard(attachment_id)
            self._ended.pop(attachment_id, None)
            self._ended[attachment_id] = now = monotonic()
            while self._ended and now - self._ended[first := next(iter(self._ended))] > NEW_S:
                del self._ended[first]

    async def collect(self, conf_name: str, valid: Sequence[ValidAttachment]) -> int:
        """End those of `conf_name` that are not in `valid`; how many were. Each is tried.

        Raises what the first refusal raised, after all others: the rows of those stay unfinished.
        """
        listed = {(item.containerID, item.ifname) for item in valid}
        known = await self._journal.run(attachments.of_configuration, conf_name)
        ending = [
            row
            for row in known
            if (row.container_id, row.ifname) not in listed and not self._is_new(row.attachment_id)
        ]
        if not listed:
            gone = await self._threads.run(self._host.missing, ending)
            ending = [row for row in ending if row.state is State.REMOVING or row.attachment_id in gone]
        outcomes = await asyncio.gather(*(self._end(row) for row in ending), return_exceptions=True)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if refusals:
            raise refusals[0]
        return len(ending)

    def _is_new(self, attachment_id: UUID) -> bool:
        if attachment_id in self._under_way:
            return True
        ended = self._ended.get(attachment_id)
        return ended is not None and monotonic() - ended <= NEW_S

    async def _end(self, row: Attachment) -> None:
        about = {"container_id": row.container_id, "ifname": row.ifname, "network": row.network}
        try:
            await self._teardown.retire(row)
        except ServiceError as error:
            log.warning("GC could not end an attachment", **about, error=str(error))
            raise
        log.info("GC ended an attachment", **about, address=[str(item.ip) for item in row.addresses])
