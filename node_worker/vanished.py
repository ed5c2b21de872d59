"""Releases attachments whose pod is gone although nobody sent a DEL: containerd never sends a GC.

What counts as evidence is said at `Host.missing`; a path says nothing. One look is not enough, and where too
much is gone at once something else has happened than pods that ended: then nothing is released (DESIGN
section 8).
"""

import asyncio
from collections.abc import Collection
from uuid import UUID

import structlog

from broker.threads import Threads
from node_worker import attachments
from node_worker.attachments import Attachment, State
from node_worker.host import Host
from node_worker.journal import Journal
from node_worker.missing import note as note_missing
from node_worker.teardown import Teardown
from schemas.errors import ServiceError

EVERY_S = 30.0
"""Between two looks, in seconds. What is missing in two of them in a row is released, also where the worker
was started again in between.
"""
_MANY = 10

log = structlog.get_logger("moorage.node")


class Vanished:
    """The looks of one worker, one after another."""

    def __init__(self, node: str, journal: Journal, host: Host, threads: Threads, teardown: Teardown) -> None:
        self._node = node
        self._journal = journal
        self._host = host
        self._threads = threads
        self._teardown = teardown
        self._doubtful = False
        self.released = 0
        """How many pods' addresses were released so."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
            except ServiceError as error:
                log.warning("vanished pods wait", node=self._node, error=str(error))
            except Exception:
                log.exception("looking for vanished pods failed", node=self._node)

    async def look(self) -> None:
        """Look once, and release what was missing the last time too. Raises ServiceError."""
        held = await self._journal.run(attachments.held)
        attached = [row for row in held if row.state is State.ATTACHED]
        gone = await self._threads.run(self._host.missing, attached)
        missing = [row for row in attached if row.attachment_id in gone]
        before = await self._journal.run(note_missing, {row.attachment_id for row in missing})
        if self._doubts(held, missing):
            return
        for row in missing:
            if row.attachment_id in before:
                await self._release(row.attachment_id)

    async def _release(self, attachment_id: UUID) -> None:
        row = await self._journal.run(attachments.by_id, attachment_id)
        if row is None or row.state is not State.ATTACHED:
            return  # its DEL came meanwhile
        log.warning(
            "a pod is gone without a DEL: its address is released",
            node=self._node,
            container_id=row.container_id,
            ifname=row.ifname,
            network=row.network,
            owner=row.owner,
            address=[str(item.ip) for item in row.addresses],
        )
        self.released += 1
        await self._teardown.retire(row)

    def _doubts(self, held: Collection[Attachment], missing: Collection[Attachment]) -> bool:
        doubtful = len(held) >= _MANY and 2 * len(missing) > len(held)
        if doubtful and not self._doubtful:
            log.error(
                "over half of this node's pods are gone without a DEL: nothing is released by itself",
                node=self._node,
                missing=len(missing),
                of=len(held),
                advice="see what took their links or namespaces away (`ip -br link`, `lsns -t net`), and "
                "delete the broken pods: each DEL releases its address",
            )
        self._doubtful = doubtful
        return doubtful
