"""Nodes without a kernel: what a node worker does over AMQP, for hundreds of nodes in one process.

Each has a user, a queue and two connections of its own, as a node worker has. It syncs when it is nudged or a
heartbeat's answer has another digest, takes every network for made (or refuses it), and reports that.
"""

import asyncio
import contextlib
import multiprocessing
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from uuid import uuid4

from bench.machine import on_uvloop
from broker.inbox import nudges
from broker.rpc import RpcClient, rpc_client
from compose.logging import configure_logging
from node_worker.asking import ask_for
from node_worker.pacing import Backoff, Bell
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.message import Done
from schemas.node import (
    DesiredNetwork,
    DesiredPage,
    Heartbeat,
    NodeHeartbeat,
    NodeReport,
    NodeSync,
    attachments_digest,
    desired_digest,
)

PROCESSES = 4
"""The descriptors of 250 nodes fit into the 1,024 that a process may have on most machines."""

_BEAT_S = 10.0
_ANSWER_S = 10.0
_PAUSE_S = (0.5, 15.0)
_STARTING = 8
"""How many nodes of one process connect at a time: all at once would keep one another from it."""
_REFUSAL = ErrorBody(code=Code.UPLINK_MISSING, message="this node has no such link")
_NO_ATTACHMENTS = attachments_digest(())


@dataclass(frozen=True)
class Recruit:
    """A node that is to be simulated, and the network that it refuses, if any."""

    name: str
    amqp_url: str
    refuses: str | None = None


class Node:
    """The AMQP side of one node worker."""

    def __init__(self, recruit: Recruit) -> None:
        self._name, self._url, self._refuses = recruit.name, recruit.amqp_url, recruit.refuses
        self._session = uuid4()
        self._bell, self._news = Bell(), Bell()
        self._present: Mapping[str, int] | None = None
        self._outcomes: dict[str, NodeReport] = {}
        self._reported: dict[str, int] = {}
        self._client: RpcClient
        self.synced = asyncio.Event()
        """Set once the node knows what it must have."""

    async def run(self) -> None:
        """Until cancelled."""
        connected = rpc_client(self._url, name=f"node {self._name}")
        async with connected as self._client, asyncio.TaskGroup() as group:
            for loop in (self._listen(), self._sync(), self._report(), self._beat()):
                group.create_task(loop)

    async def _listen(self) -> None:
        async for _ in nudges(self._url, self._name, name=f"node {self._name} inbox"):
            self._bell.ring()

    async def _sync(self) -> None:
        backoff = Backoff(*_PAUSE_S)
        while True:
            try:
                desired = await self._fetch()
            except ServiceError:
                await self._bell.wait(backoff.delay())
                continue
            backoff.reset()
            self._present = {item.network: item.version for item in desired if item.state == "present"}
            self._outcomes = {item.network: self._made(item) for item in desired}
            self._news.ring()
            self.synced.set()
            await self._bell.wait(None)

    async def _fetch(self) -> list[DesiredNetwork]:
        desired: list[DesiredNetwork] = []
        after: str | None = None
        while True:
            request = NodeSync(node=self._name, session=self._session, after=after)
            page = await ask_for(DesiredPage, self._client.ask, request, _ANSWER_S)
            desired.extend(page.networks)
            if page.next is None:
                return desired
            after = page.next

    def _made(self, item: DesiredNetwork) -> NodeReport:
        refused = item.state == "present" and item.network == self._refuses
        return NodeReport(
            node=self._name,
            session=self._session,
            network=item.network,
            version=item.version,
            result="error" if refused else "ready" if item.state == "present" else "removed",
            error=_REFUSAL if refused else None,
        )

    async def _report(self) -> None:
        backoff = Backoff(*_PAUSE_S)
        while True:
            try:
                for report in list(self._outcomes.values()):
                    if self._reported.get(report.network) != report.version:
                        await ask_for(Done, self._client.ask, report, _ANSWER_S)
                        self._reported[report.network] = report.version
            except ServiceError:
                await self._news.wait(backoff.delay())
            else:
                backoff.reset()
                await self._news.wait(None)

    async def _beat(self) -> None:
        await self.synced.wait()
        while True:
            digest = desired_digest((self._present or {}).items())
            request = NodeHeartbeat(
                node=self._name, session=self._session, digest=digest, attachments=_NO_ATTACHMENTS
            )
            with contextlib.suppress(ServiceError):
                answer = await ask_for(Heartbeat, self._client.ask, request, _ANSWER_S)
                if answer.digest != desired_digest((self._present or {}).items()):
                    self._bell.ring()
            await asyncio.sleep(_BEAT_S * random.uniform(0.8, 1.2))


@contextmanager
def fleet(recruits: list[Recruit]) -> Iterator[None]:
    """These nodes in processes of their own while the context lasts; all of them have synced when it begins.

    Raises `EOFError` where one of the processes ended.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(PROCESSES):
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(theirs, recruits[number::PROCESSES]), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            pipe.recv()
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _run(pipe: Connection, recruits: list[Recruit]) -> None:
    configure_logging("error", "text")
    on_uvloop(_serve(pipe, recruits))


async def _serve(pipe: Connection, recruits: list[Recruit]) -> None:
    starting = asyncio.Semaphore(_STARTING)

    async def started(node: Node, group: asyncio.TaskGroup) -> None:
        async with starting:
            group.create_task(node.run())
            await node.synced.wait()

    async with asyncio.TaskGroup() as group:
        async with asyncio.TaskGroup() as starts:
            for recruit in recruits:
                starts.create_task(started(Node(recruit), group))
        pipe.send(None)
