"""Sends the releases that the journal owes until each is answered, side by side but not too many at once."""

import asyncio

import structlog

from node_worker import attachments
from node_worker.asking import Ask, ask_for
from node_worker.attachments import Release
from node_worker.journal import Journal
from node_worker.pacing import Backoff, Bell
from schemas.address import AddressRelease, Released
from schemas.errors import Code, ServiceError

_ANSWER_S = 10.0
_AT_ONCE = 16
_CHUNK = 200
_PAUSE_S = (0.5, 15.0)

log = structlog.get_logger("moorage.node")


class Releases:
    """A release leaves the journal only after its answer (DESIGN section 6, promises 3 and 7)."""

    def __init__(self, node: str, ask: Ask, journal: Journal) -> None:
        self._node = node
        self._ask = ask
        self._journal = journal
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._on_the_way: dict[int, asyncio.Task[bool]] = {}
        self._owing = Bell()
        self._again = Bell()

    def send(self, release: Release) -> None:
        """Send one that was just journaled, at once; if that fails `run` repeats it."""
        self._begin(release)
        self._owing.ring()

    async def wait(self, release: Release, timeout_s: float) -> None:
        """Wait until a release that was sent has come out one way or the other; `timeout_s` at most."""
        task = self._on_the_way.get(release.id)
        if task is not None:
            await asyncio.wait({task}, timeout=timeout_s)

    def wake(self) -> None:
        """Repeat now what failed: the broker is back."""
        self._again.ring()

    async def settle(self, container_id: str, ifname: str, timeout_s: float) -> None:
        """See that no release by container is owed for this interface: it would free the next attachment.

        Raises ServiceError `unavailable` when that takes longer than `timeout_s` seconds.
        """
        for release in await self._journal.run(attachments.nameless, container_id, ifname):
            task = self._begin(release)
            await asyncio.wait({task}, timeout=timeout_s)
            if not task.done() or not task.result():
                raise ServiceError(
                    Code.UNAVAILABLE,
                    f"an earlier release of {container_id} {ifname} is not answered yet: try again",
                    container_id=container_id,
                )

    async def run(self) -> None:
        """Until cancelled, send what is owed."""
        backoff = Backoff(*_PAUSE_S)
        try:
            while True:
                if await self._send_all():
                    backoff.reset()
                    await self._owing.wait(None)
                else:
                    await self._again.wait(backoff.delay())
        finally:
            for task in self._on_the_way.values():
                task.cancel()

    async def _send_all(self) -> bool:
        try:
            owed = await self._journal.run(attachments.owed)
        except ServiceError as error:
            log.warning("releases wait", node=self._node, error=str(error))
            return False
        for start in range(0, len(owed), _CHUNK):
            tasks = [self._begin(release) for release in owed[start : start + _CHUNK]]
            await asyncio.wait(tasks)
            if not all(task.result() for task in tasks):
                log.warning("releases wait", node=self._node, owed=len(owed) - start)
                return False
        return True

    def _begin(self, release: Release) -> asyncio.Task[bool]:
        task = self._on_the_way.get(release.id)
        if task is None:
            task = asyncio.create_task(self._deliver(release), name=f"release {release.id}")
            self._on_the_way[release.id] = task
            task.add_done_callback(lambda _: self._on_the_way.pop(release.id, None))
        return task

    async def _deliver(self, release: Release) -> bool:
        async with self._slots:
            try:
                request = AddressRelease(
                    network=release.network,
                    node=self._node,
                    container_id=release.container_id,
                    ifname=release.ifname,
                    attachment_id=release.attachment_id,
                )
                await ask_for(Released, self._ask, request, _ANSWER_S)
                await self._journal.run(attachments.settled, release.id)
            except ServiceError as error:
                log.info("release unanswered", container_id=release.container_id, error=str(error))
                return False
            except Exception:
                log.exception("a release failed", container_id=release.container_id)
                return False
        return True
