"""How an attachment ends, whoever ends it: DEL, a failed ADD, a successor here, a restart, the allocator.

    cut the endpoint -> journal `removing` and the release owed -> send the release -> remove the endpoint
    -> forget the row

Killed between any two of these, the row is found unfinished at the next start and goes the same way again;
the release is not sent before the endpoint is cut, so no address is heard from two pods.
"""

import asyncio
from collections.abc import Iterable

import structlog

from broker.threads import Threads
from node_worker import attachments
from node_worker.attachments import Attachment, Release
from node_worker.host import Host
from node_worker.journal import Journal
from node_worker.releases import Releases
from schemas.errors import ServiceError

log = structlog.get_logger("moorage.node")


class Teardown:
    """Ends attachments. Every call is safe to repeat."""

    def __init__(
        self, journal: Journal, host: Host, threads: Threads, removals: Threads, releases: Releases
    ) -> None:
        """`removals` are threads of their own, and more: to remove a link the kernel waits for 15 ms."""
        self._journal = journal
        self._host = host
        self._threads = threads
        self._removals = removals
        self._releases = releases

    async def retire(self, attachment: Attachment) -> Release | None:
        """End one attachment; its release, already on the way, unless that is done.

        If nobody knows whether it took over from an older sandbox of its owner, that one ends first: once
        this one is released the address may go to another node, and must not be heard from here any more.
        Raises ServiceError where the kernel or the journal refuses; the row stays unfinished then.
        """
        for older in await self._journal.run(attachments.predecessors, attachment.attachment_id):
            await self._end(older)
        return await self._end(attachment)

    async def retire_all(self, ending: Iterable[Attachment]) -> None:
        """End all of these side by side. Each is tried; raises what the first refusal raised."""
        retiring = (self.retire(attachment) for attachment in ending)
        outcomes = await asyncio.gather(*retiring, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _end(self, attachment: Attachment) -> Release | None:
        release = await self._threads.run(self._cut, attachment)
        if release is not None:
            self._releases.send(release)
        await self._removals.run(self._removed, attachment)
        return release

    def _cut(self, attachment: Attachment) -> Release | None:
        self._host.driver(attachment.driver).cut(attachment)
        return self._journal.now(attachments.removing, attachment)

    def _removed(self, attachment: Attachment) -> None:
        self._host.driver(attachment.driver).detach(attachment)
        self._journal.now(attachments.gone, attachment.attachment_id)

    async def clear(self, attachment: Attachment) -> None:
        """Remove the endpoint alone."""
        driver = self._host.driver(attachment.driver)
        await self._threads.run(driver.cut, attachment)
        await self._removals.run(driver.detach, attachment)

    async def recover(self) -> None:
        """At start: end what a killed worker left unfinished, and all pods of an earlier boot.

        No namespace outlives the kernel it was in. What cannot be ended now stays.
        """
        left = await self._journal.run(attachments.left_over, self._host.boot_id)
        await asyncio.gather(*map(self._recover, left))

    async def _recover(self, attachment: Attachment) -> None:
        about = {"container_id": attachment.container_id, "ifname": attachment.ifname}
        rebooted = attachment.boot_id != self._host.boot_id
        try:
            await self.retire(attachment)
        except ServiceError as error:
            log.warning("an unfinished attachment stays", **about, error=str(error))
        else:
            why = "the machine was started anew" if rebooted else f"it was {attachment.state}"
            log.info("an unfinished attachment was undone", **about, because=why)
