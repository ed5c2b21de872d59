"""The node worker's process: what it needs, built and run. Knows nothing of the database."""

import asyncio
import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

from broker.inbox import nudges
from broker.login import Login
from broker.metrics import Asked
from broker.rpc import rpc_client
from compose.monitoring import monitored, new_registry
from compose.settings import Settings, need
from node_worker import worker
from node_worker.inbox import Inbox
from node_worker.metrics import NodeMetrics

_SWITCH_S = 0.0005
"""How long a thread keeps the interpreter from others, in seconds. Those that come back from the kernel hold
up all that wait for their turn with it, so Python's 5 ms would be far too long.
"""


_M_ARENA_MAX = -8  # malloc.h, for mallopt(3)
_ARENAS = 2


def _look_for_garbage_seldom() -> None:
    """What is there when all is loaded stays, and what a call makes is freed without being looked for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


def _share_heaps() -> None:
    """Let threads share heaps. glibc would give each of ours its own, 10 MB in all that nobody needs."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


async def run_node(settings: Settings) -> None:
    """One node worker: keeps this node's networks and serves its CNI calls.

    Raises ServiceError when a setting is missing, or the journal or the namespace cannot be used.
    """
    url = need(settings.broker, "AMQP_URL", "the node worker reaches the allocator through RabbitMQ")
    sys.setswitchinterval(_SWITCH_S)
    _share_heaps()
    _look_for_garbage_seldom()
    config = worker_config(settings)
    node = config.node
    inbox, registry = Inbox(), new_registry("node")
    async with rpc_client(url, name=f"node {node}", asked=Asked(registry)) as client:
        metrics = NodeMetrics(registry, lambda: client.connected)
        async with monitored(settings.monitoring, registry, metrics.ready), asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(url, node, inbox))
            await worker.run(config, client.ask, inbox, metrics)
            listening.cancel()


def worker_config(settings: Settings) -> worker.WorkerConfig:
    """What the node worker is told of the settings. Raises `not_provisioned` without the node's name."""
    return worker.WorkerConfig(
        node=need(settings.node_name, "NODE_NAME", "it is this machine's Kubernetes node name"),
        journal=settings.node_dir / "journal.sqlite",
        socket=settings.cni_socket,
        netns=settings.node_netns,
        netns_folders=tuple(map(Path, settings.netns_folders.split(":"))),
        address=settings.node_address,
        repair_s=settings.reconcile_s,
    )


async def _listen(url: Login, node: str, inbox: Inbox) -> None:
    async for nudge in nudges(url, node, name=f"node {node} inbox"):
        inbox.told(nudge)
