"""The node worker put together: its parts, the loops that keep them going, how it starts and stops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from broker.threads import Threads
from cni.endpoint import serve
from node_worker.asking import Ask
from node_worker.clock import DatabaseClock
from node_worker.collecting import Collector
from node_worker.conflicts import Conflicts
from node_worker.gate import Gate
from node_worker.handlers import Handlers, Parts
from node_worker.host import Host
from node_worker.inbox import Inbox
from node_worker.journal import Journal
from node_worker.leftovers import Leftovers
from node_worker.metrics import NodeMetrics, Watched
from node_worker.netns_folders import NETNS_FOLDERS
from node_worker.pacing import Bell
from node_worker.pulse import Pulse
from node_worker.reconcile import Reconcile
from node_worker.releases import Releases
from node_worker.reports import Reports
from node_worker.session import Session
from node_worker.survey import Survey
from node_worker.sync import REPAIR_S, Sync
from node_worker.teardown import Teardown
from node_worker.vanished import Vanished
from schemas.fields import IPAddress

_NETLINK_THREADS = 4
_REMOVALS = 16
_PROBES = 32

log = structlog.get_logger("moorage.node")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Which node this is, where it keeps its journal and its CNI socket, and which netns it wires.

    `netns` is the path of a network namespace; None is the worker's own. Pods' namespaces must be under
    `netns_folders`. One journal belongs to one worker. Tunnels to this node end at `address`, by default the
    one that the machine reaches others with. Networks are looked at, and mended, every `repair_s` seconds.
    """

    node: str
    journal: Path
    socket: Path
    netns: Path | None = None
    netns_folders: tuple[Path, ...] = NETNS_FOLDERS
    address: IPAddress | None = None
    repair_s: float = REPAIR_S


async def run(config: WorkerConfig, ask: Ask, inbox: Inbox, metrics: NodeMetrics) -> None:
    """Serve CNI calls until cancelled; running calls may end then, for some seconds.

    `ask` reaches the allocator, `inbox` is told what its queue brings, `metrics` look at it all.
    What a killed worker left unfinished is undone before the socket appears, what the allocator ended
    meanwhile before the first ADD is served. Raises ServiceError when the journal or the namespace
    cannot be used.
    """
    with (
        Host(config.netns, config.netns_folders, config.address) as host,
        Journal(config.journal) as journal,
        Threads("netlink", _NETLINK_THREADS) as threads,
        Threads("removals", _REMOVALS) as removals,
        Threads("probes", _PROBES) as probes,
    ):
        session, clock, gate = Session(config.node), DatabaseClock(), Gate(config.node)
        sync = Sync(session, ask, clock, journal, host, threads, config.repair_s)
        releases = Releases(config.node, ask, journal)
        reports = Reports(session, ask, journal, sync.news)
        teardown = Teardown(journal, host, threads, removals, releases)
        vanished = Vanished(config.node, journal, host, threads, teardown)
        leftovers = Leftovers(journal, host, threads, releases)
        reconcile = Reconcile(session, ask, clock, journal, teardown, leftovers, gate, sync.ended)
        pulse = Pulse(session, ask, clock, sync, reconcile, gate)
        survey, conflicts = Survey(journal), Conflicts(config.node, ask, probes)
        await teardown.recover()
        metrics.watch(Watched(pulse, gate, sync, journal, reconcile, vanished, conflicts, survey))
        loops = (
            reconcile.run(),
            sync.run(),
            reports.run(),
            releases.run(),
            pulse.run(),
            vanished.run(),
            survey.run(),
            _follow(inbox.networks, sync.wake),
            _follow(inbox.attachments, reconcile.wake),
            _follow(inbox.connected, sync.doubt, sync.news.ring, releases.wake, pulse.wake),
            _follow(pulse.returned, sync.wake, sync.news.ring, releases.wake),
        )
        collector = Collector(journal, host, threads, teardown)
        parts = Parts(
            config.node,
            ask,
            clock,
            journal,
            host,
            threads,
            sync,
            pulse,
            gate,
            releases,
            teardown,
            collector,
            conflicts,
        )
        async with _running(*loops), serve(config.socket, Handlers(parts), observe=metrics.called):
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
