"""The node worker put together: its parts, the loops that keep them going, how it starts and stops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from cni.endpoint import serve
from node_worker.asking import Ask
from node_worker.clock import DatabaseClock
from node_worker.handlers import Handlers, Parts
from node_worker.host import Host
from node_worker.journal import Journal
from node_worker.pacing import Bell
from node_worker.pulse import Pulse
from node_worker.releases import Releases
from node_worker.reports import Reports
from node_worker.sync import Session, Sync
from node_worker.teardown import Teardown
from node_worker.threads import Threads

_NETLINK_THREADS = 8

log = structlog.get_logger("moorage.node")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Which node this is, where it keeps its journal and its CNI socket, and which netns it wires.

    `netns` is the path of a network namespace; None is the worker's own. One journal belongs to one worker.
    """

    node: str
    journal: Path
    socket: Path
    netns: Path | None = None


async def run(config: WorkerConfig, ask: Ask, nudged: Bell, reconnected: Bell) -> None:
    """Serve CNI calls until cancelled; running calls may end then, for some seconds.

    `ask` reaches the allocator. Ring `nudged` for each nudge in the node's queue, and `reconnected` whenever
    the broker is back: nothing depends on them but how soon things happen. What a killed worker left
    unfinished is undone before the socket appears. Raises ServiceError when the journal or the namespace
    cannot be used.
    """
    with (
        Host(config.netns) as host,
        Journal(config.journal) as journal,
        Threads("netlink", _NETLINK_THREADS) as threads,
    ):
        session, clock = Session(config.node, uuid4()), DatabaseClock()
        sync = Sync(session, ask, clock, journal, host, threads)
        pulse = Pulse(session, ask, clock, sync, reconnected)
        releases = Releases(config.node, ask, journal)
        reports = Reports(session, ask, journal, sync.news)
        teardown = Teardown(journal, host, threads, releases)
        await teardown.recover()
        loops = (
            sync.run(),
            reports.run(),
            releases.run(),
            pulse.run(),
            _follow(nudged, sync.wake),
            _follow(reconnected, sync.wake, sync.news.ring, releases.wake, pulse.wake),
        )
        parts = Parts(config.node, ask, clock, journal, host, threads, sync, pulse, releases, teardown)
        async with _running(*loops), serve(config.socket, Handlers(parts)):
            log.info("node worker serves", node=config.node, socket=str(config.socket))
            await asyncio.Event().wait()


@asynccontextmanager
async def _running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let `loops` run beside the block; one that breaks ends the block, and the block's end ends them."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _follow(bell: Bell, *wakes: Callable[[], None]) -> None:
    while True:
        await bell.wait(None)
        for wake in wakes:
            wake()
