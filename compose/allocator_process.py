"""The allocator's process: what it needs, built and run."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from allocator.database import Database, open_engine
from allocator.metrics import SurveyMetrics
from allocator.outbox import Outbox
from allocator.readiness import readiness
from allocator.relay import Relay
from allocator.retention import Retention
from allocator.senders import authorize
from allocator.service import Allocator
from allocator.survey import Survey
from allocator.timers import Timers
from broker import topology
from broker.consumer import QueuePlan, consume
from broker.depths import Depths
from broker.inspection import user_of
from broker.login import Login
from broker.metrics import Served
from broker.poster import poster
from broker.sender_clocks import SenderClocks
from compose.monitoring import monitored, new_registry
from compose.schema_wait import schema_ready
from compose.settings import Settings, need

log = structlog.get_logger("moorage")

_PREFETCH = 256
_BATCH = 64
_HEARTBEATS_APART_S = 0.1
"""How long heartbeats wait for one another, in seconds. A batch costs much the same for one as for many, and
nobody needs the answer sooner, unless it is the first of a node: that of one that asks alone is not kept.
"""
_READS = 16
"""How many queries are answered on one connection in turn, where so many wait."""
_READERS = 3
_SWITCH_S = 0.0005
"""How long a thread keeps the interpreter from others, in seconds. Python's 5 ms, at each answer of the
database, would make a query wait for tens of milliseconds while requests are applied.
"""
_OTHERS_FIRST_S = 3.0
"""How long an allocator leaves the partitions that it does not prefer to others, in seconds."""


async def run_allocator(settings: Settings) -> None:
    """One allocator: consumes all partitions, heartbeats and queries, and sends what commits leave behind.

    Waits for a database that is away or not upgraded yet. Raises `not_provisioned` without a setting.
    """
    url = need(settings.broker, "AMQP_URL", "the allocator consumes its requests from RabbitMQ")
    user_of(url)  # one that cannot be used is told at once, not once the database is there
    server = need(settings.database, "DATABASE_URL", "the allocator keeps its state in MySQL or MariaDB")
    engine, reads = open_engine(server), open_engine(server, reads=True)
    database, registry = Database(engine), new_registry("allocator")
    survey, served = Survey(database), Served(registry)
    ready = partial(readiness, survey, served.consumers)
    SurveyMetrics(survey, ready, registry)
    try:
        sys.setswitchinterval(_SWITCH_S)
        async with (
            monitored(settings.monitoring, registry, ready),
            _surveying(url, survey, registry, settings),
        ):
            await schema_ready(engine)
            await _serve(url, database, Database(reads), settings, served)
    finally:
        engine.dispose()
        reads.dispose()


@asynccontextmanager
async def _surveying(
    url: Login, survey: Survey, registry: CollectorRegistry, settings: Settings
) -> AsyncIterator[None]:
    """Look at database and queues while the block runs, where somebody is told what is seen."""
    if settings.monitoring is None:
        yield
        return
    depths = Depths([queue.name for queue in topology.shared_queues()], registry)
    tasks = [
        asyncio.create_task(survey.run(), name="survey"),
        asyncio.create_task(depths.run(url, name="allocator depths"), name="depths"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _preferred(settings: Settings) -> Collection[int]:
    """The partitions to subscribe to at once; the others are left to other allocators for some seconds."""
    if not settings.allocator_partitions:
        return range(topology.PARTITIONS)
    return {int(number) for number in settings.allocator_partitions.split(",")}


async def _serve(
    url: Login, database: Database, reading: Database, settings: Settings, served: Served
) -> None:
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
        heartbeats = [
            QueuePlan(
                topology.HEARTBEATS,
                prefetch=_PREFETCH,
                batch=_BATCH,
                apart_s=_HEARTBEATS_APART_S,
                quiet=True,
            )
        ]
        # Several: the map of a large network takes its time, and no other query shall wait for it.
        reading_plan = QueuePlan(
            topology.QUERIES_QUEUE, prefetch=_READS, batch=_READS, dead_letters=False, quiet=True
        )
        reads = [reading_plan] * _READERS
        serve = partial(consume, url, authorize=authorize, served=served, clocks=SenderClocks())
        # What is there by now stays: to look through all of it for garbage, again and again, stops everything
        # for 100 ms each time. What a batch makes is freed without being looked for; so look seldom.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        log.info("allocator starts", partitions=topology.PARTITIONS)
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(partitions, allocator.apply, at_once=allocator.at_once, name="allocator"))
            group.create_task(serve(heartbeats, allocator.apply, name="allocator heartbeats"))
            group.create_task(serve(reads, allocator.answer, name="allocator queries"))
            group.create_task(outbox.run(timers.tick))
            group.create_task(relay.run())
