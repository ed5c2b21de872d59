"""Attachments that have ended here and that the allocator has all the same, after a restored backup."""

import asyncio
from collections.abc import Iterable, Sequence
from uuid import UUID

import structlog

from broker.threads import Threads
from node_worker import attachments
from node_worker.attachments import Release
from node_worker.host import Host
from node_worker.journal import Journal
from node_worker.plan import host_link_name
from node_worker.releases import Releases
from schemas.node import LeftoverAttachment, NodeAttachment

_RELEASE_S = 5.0

log = structlog.get_logger("moorage.node")


class Leftovers:
    """Releases them, but never the address of a pod that may live on."""

    def __init__(self, journal: Journal, host: Host, threads: Threads, releases: Releases) -> None:
        self._journal = journal
        self._host = host
        self._threads = threads
        self._releases = releases
        self._spared: set[UUID] = set()

    async def settle(self, leftovers: Iterable[LeftoverAttachment]) -> None:
        """Owe the release of each that the journal knows nothing of, and wait a while for the answers.

        A pod may live on although the journal knows nothing of it: the journal was lost. So none is released
        when this one began blank, nor ever one whose host link still exists.
        """
        owed = [release for leftover in leftovers if (release := await self._judged(leftover))]
        await asyncio.gather(*(self._releases.wait(release, _RELEASE_S) for release in owed))

    async def told(self, details: Sequence[NodeAttachment]) -> None:
        """Release again what ended here while the allocator was told of it.

        The first release may have reached it when it did not know the attachment yet, and freed nothing.
        """
        for release in await self._journal.run(attachments.owe_again, details):
            self._releases.send(release)

    async def _judged(self, leftover: LeftoverAttachment) -> Release | None:
        if await self._journal.run(attachments.by_id, leftover.attachment_id) is not None:
            return None
        link = host_link_name(leftover.attachment_id)
        if self._journal.is_new:
            self._spare(leftover, "this node worker began with a new journal")
        elif await self._threads.run(self._host.has_host_link, link):
            self._spare(leftover, f"its host link {link} exists")
        else:
            release = await self._journal.run(attachments.owe_unknown, leftover)
            if release is not None:
                log.warning("a leftover attachment is released", **_about(leftover))
                self._releases.send(release)
            return release
        return None

    def _spare(self, leftover: LeftoverAttachment, why: str) -> None:
        if leftover.attachment_id not in self._spared:
            self._spared.add(leftover.attachment_id)
            log.warning(
                "an attachment that the journal does not know keeps its address, for its pod may live on",
                **_about(leftover),
                because=why,
                advice="delete that pod to free it; if there is none any more, release the address by hand",
            )


def _about(leftover: LeftoverAttachment) -> dict[str, str]:
    return {
        "attachment_id": str(leftover.attachment_id),
        "network": leftover.network,
        "container_id": leftover.container_id,
        "ifname": leftover.ifname,
    }
