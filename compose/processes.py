"""The long-running processes: each function builds what its process needs, runs it, and ends on SIGTERM."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Collection, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, wait_random_exponential

from allocator import schema
from allocator.database import Database, is_away, open_engine
from allocator.outbox import Outbox
from allocator.relay import Relay
from allocator.retention import Retention
from allocator.senders import authorize
from allocator.service import Allocator
from allocator.timers import Timers
from broker import topology
from broker.consumer import QueuePlan, consume
from broker.inbox import nudges
from broker.poster import poster
from broker.rpc import rpc_client
from compose.settings import Settings, need
from node_worker import worker
from node_worker.inbox import Inbox

log = structlog.get_logger("moorage")

_PREFETCH = 256
_BATCH = 64
_READS = 16
"""How many queries are answered on one connection in turn, where so many wait."""
_READERS = 3
_SWITCH_S = 0.0005
"""How long a thread keeps the interpreter from others, in seconds. Python's 5 ms, at each answer of the
database, would make a query wait for tens of milliseconds while requests are applied.
"""
_OTHERS_FIRST_S = 3.0
"""How long an allocator leaves the partitions that it does not prefer to others, in seconds."""


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on uvloop until it ends, or until SIGTERM or SIGINT cancels it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_stoppable(work))


async def _stoppable(work: Coroutine[Any, Any, None]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def run_allocator(settings: Settings) -> None:
    """One allocator: consumes all partitions, heartbeats and queries, and sends what commits leave behind.

    Waits for a database that is away. Raises `not_provisioned` when its schema is not this code's.
    """
    url = need(settings.amqp_url, "AMQP_URL", "the allocator consumes its requests from RabbitMQ")
    database_url = need(
        settings.database_url, "DATABASE_URL", "the allocator keeps its state in MySQL or MariaDB"
    )
    engine, reads = open_engine(database_url), open_engine(database_url, reads=True)
    try:
        sys.setswitchinterval(_SWITCH_S)
        await asyncio.to_thread(_check_schema, engine)
        await _serve(url, Database(engine), Database(reads), settings)
    finally:
        engine.dispose()
        reads.dispose()


@retry(retry=retry_if_exception(is_away), wait=wait_random_exponential(multiplier=0.2, max=5))
def _check_schema(engine: Engine) -> None:
    try:
        schema.check(engine)
    except DBAPIError as error:
        log.warning("waiting for the database", reason=str(error.orig))
        raise


def _preferred(settings: Settings) -> Collection[int]:
    """The partitions to subscribe to at once; the others are left to other allocators for some seconds."""
    if not settings.allocator_partitions:
        return range(topology.PARTITIONS)
    return {int(number) for number in settings.allocator_partitions.split(",")}


async def _serve(url: str, database: Database, reading: Database, settings: Settings) -> None:
    preferred = _preferred(settings)
    loop = asyncio.get_running_loop()
    # Events have a connection of their own: RabbitMQ slows down the one that fills a slow queue.
    async with poster(url, name="allocator outbox") as post, poster(url, name="allocator events") as exchange:
        relay = Relay(database, exchange, loop)
        outbox = Outbox(database, post, loop, relay.touched)
        allocator = Allocator(database, outbox.after_commit, reading)
        timers = Timers(database, outbox.after_commit, retention=Retention(database, settings.history_days))
        partitions = [
            QueuePlan(
                topology.allocator_queue(p),
                prefetch=_PREFETCH,
                batch=_BATCH,
                delay_s=0 if p in preferred else _OTHERS_FIRST_S,
            )
            for p in range(topology.PARTITIONS)
        ]
        heartbeats = [QueuePlan(topology.HEARTBEATS, prefetch=_PREFETCH, batch=_BATCH)]
        # Several: the map of a large network takes its time, and no other query shall wait for it.
        reading_plan = QueuePlan(topology.QUERIES_QUEUE, prefetch=_READS, batch=_READS, dead_letters=False)
        reads = [reading_plan] * _READERS
        serve = partial(consume, url, authorize=authorize)
        # What is there by now stays: to look through all of it for garbage, again and again, stops everything
        # for 100 ms each time. What a batch makes is freed without being looked for; so look seldom.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        log.info("allocator starts", partitions=topology.PARTITIONS)
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(partitions, allocator.apply, name="allocator"))
            group.create_task(serve(heartbeats, allocator.apply, name="allocator heartbeats"))
            group.create_task(serve(reads, allocator.answer, name="allocator queries"))
            group.create_task(outbox.run(timers.tick))
            group.create_task(relay.run())


async def run_node(settings: Settings) -> None:
    """One node worker: keeps this node's networks and serves its CNI calls.

    Raises ServiceError when a setting is missing, or the journal or the namespace cannot be used.
    """
    url = need(settings.amqp_url, "AMQP_URL", "the node worker reaches the allocator through RabbitMQ")
    config = worker_config(settings)
    node = config.node
    inbox = Inbox()
    async with (
        rpc_client(url, name=f"node {node}") as client,
        asyncio.TaskGroup() as group,
    ):
        listening = group.create_task(_listen(url, node, inbox))
        await worker.run(config, client.ask, inbox)
        listening.cancel()


def worker_config(settings: Settings) -> worker.WorkerConfig:
    """What the node worker is told of the settings. Raises `not_provisioned` without the node's name."""
    return worker.WorkerConfig(
        node=need(settings.node_name, "NODE_NAME", "it is this machine's Kubernetes node name"),
        journal=settings.node_dir / "journal.sqlite",
        socket=settings.cni_socket,
        netns=settings.node_netns,
        netns_folders=tuple(map(Path, settings.netns_folders.split(":"))),
    )


async def _listen(url: str, node: str, inbox: Inbox) -> None:
    async for nudge in nudges(url, node, name=f"node {node} inbox"):
        inbox.told(nudge)
