"""What the heartbeats of five thousand nodes cost the allocator, and how soon they are answered."""

import asyncio
import heapq
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from uuid import UUID, uuid4

from sqlalchemy import insert

from allocator import tables as t
from allocator.database import open_engine
from allocator.store import networks
from bench.machine import Machine, Place, Size, cpu_s, on_uvloop, pid_of
from bench.pods import new_network, percentile
from bench.results import Figure
from broker import frames
from broker.codec import decode_answer, encode_request
from broker.connection import Link
from broker.permissions import user_name
from broker.rpc import rpc_client
from broker.topology import REPLY_QUEUE, REQUESTS_EXCHANGE, routing_key
from broker.wire import Wire
from schemas.network import NetworkView
from schemas.node import Heartbeat, NodeHeartbeat, attachments_digest, desired_digest

NETWORK = "bench"
BEAT_S = 10.0
_CHANNELS = 100
_LAST_S = 5.0
_NO_ATTACHMENTS = attachments_digest(())
FIGURES = (
    Figure("heartbeats_5000_cpu", "processor time of the allocator over time, 5,000 nodes", at_most=0.25),
    Figure("heartbeats_5000_p50_ms", "one of these heartbeats until its answer, median"),
    Figure("heartbeats_5000_p99_ms", "the same, 99th percentile"),
    Figure("heartbeats_5000_per_s", "heartbeats a second meanwhile"),
)


def run(machine: Machine) -> dict[str, float]:
    """Heartbeats every 10 s with jitter, for nodes that have what they must have: nothing follows.

    Raises AssertionError where one was not answered, or with anything that would make its node sync.
    """
    quick = machine.size is Size.QUICK
    count, warm_s, seconds = (100, 1.0, 3.0) if quick else (5_000, 6.0, 25.0)
    place, database = machine.place("heartbeats"), machine.database("heartbeats")
    with machine.allocator(place, database) as allocator:
        digest = on_uvloop(_network(place))
        sessions = {f"bench-{number}": uuid4() for number in range(count)}
        _make_known(database, sessions)
        machine.tell(f"heartbeats of {count:,} nodes for {warm_s + seconds:g} s")
        crowd = _Crowd(sessions, digest)
        share = on_uvloop(_measure(machine.impersonator(place), crowd, pid_of(allocator), warm_s, seconds))
    taken = crowd.taken
    return {
        "heartbeats_5000_cpu": share,
        "heartbeats_5000_p50_ms": percentile(taken, 50) * 1e3,
        "heartbeats_5000_p99_ms": percentile(taken, 99) * 1e3,
        "heartbeats_5000_per_s": len(taken) / seconds,
    }


async def _network(place: Place) -> str:
    """Make a network, while no node is known; the digest that all nodes then have."""
    async with rpc_client(place.operator, name="bench") as asked:
        made = await asked.ask(new_network(NETWORK), timeout_s=30)
    assert isinstance(made, NetworkView)
    return desired_digest([(NETWORK, made.version)])


def _make_known(url: str, sessions: Mapping[str, UUID]) -> None:
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            now = networks.database_time(connection)
            rows = [
                {"name": name, "session": session, "state": "ready", "last_seen": now}
                for name, session in sessions.items()
            ]
            connection.execute(insert(t.nodes), rows)
    finally:
        engine.dispose()


class _Crowd:
    """The nodes. They share channels of a user who may speak for each; the allocator sees no difference."""

    def __init__(self, sessions: Mapping[str, UUID], digest: str) -> None:
        self._requests = [
            NodeHeartbeat(node=name, session=session, digest=digest, attachments=_NO_ATTACHMENTS)
            for name, session in sessions.items()
        ]
        self._digest = digest
        self._waiting: dict[str, float] = {}
        self._odd = 0
        self.counting = False
        self.taken: list[float] = []
        """How long the answers took, in seconds, of what was asked and answered while `counting`."""

    async def open(self, url: str, undo: AsyncExitStack) -> Sequence[tuple[Wire, int, int]]:
        """Channels with a reply queue each: their wire, number and the largest frame."""
        link = await undo.enter_async_context(Link(url, name="bench nodes"))
        opened = []
        for _ in range(_CHANNELS):
            channel, wire = await link.wired_channel(confirms=False)
            underlay = await channel.get_underlay_channel()
            wire.divert(underlay.number, self._heard)
            replies = await channel.get_queue(REPLY_QUEUE, ensure=False)
            await replies.consume(_never, no_ack=True)
            opened.append((wire, underlay.number, underlay.connection.connection_tune.frame_max))
        return opened

    async def beat(self, channels: Sequence[tuple[Wire, int, int]]) -> None:
        """Until cancelled: each node at its own times."""
        start = time.monotonic()
        due = [(start + random.random() * BEAT_S, number) for number in range(len(self._requests))]
        heapq.heapify(due)
        turns = cycle(channels)
        while True:
            at, number = due[0]
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            self._send(self._requests[number], *next(turns))
            heapq.heapreplace(due, (at + BEAT_S * random.uniform(0.8, 1.2), number))

    def _send(self, request: NodeHeartbeat, wire: Wire, channel: int, frame_max: int) -> None:
        correlation_id = uuid4().hex
        message = encode_request(
            request,
            user_id=user_name("node", request.node),
            message_id=uuid4().hex,
            correlation_id=correlation_id,
            reply_to=REPLY_QUEUE,
        )
        self._waiting[correlation_id] = time.monotonic()
        wire.write(
            frames.send(channel, REQUESTS_EXCHANGE, routing_key(request), message, frame_max=frame_max)
        )

    def _heard(self, message: frames.Arrived) -> None:
        asked_at = self._waiting.pop(message.correlation_id or "")
        if self.counting:
            self.taken.append(time.monotonic() - asked_at)
        answer = decode_answer(message.body, NodeHeartbeat)
        assert isinstance(answer, Heartbeat)
        said = (answer.digest, answer.attachments, answer.fenced)
        self._odd += said != (self._digest, _NO_ATTACHMENTS, False)

    async def rest(self) -> None:
        """Wait for the answers that are still to come. Raises AssertionError as `run` does."""
        until = time.monotonic() + _LAST_S
        while self._waiting:
            assert time.monotonic() < until, f"{len(self._waiting)} heartbeats were not answered"
            await asyncio.sleep(0.01)
        assert self._odd == 0, f"{self._odd} answers would have made their nodes sync"


async def _never(_: object) -> None:
    raise AssertionError("answers are taken off the wire")


async def _measure(url: str, crowd: _Crowd, pid: int, warm_s: float, seconds: float) -> float:
    """The allocator's processor time a second."""
    async with AsyncExitStack() as undo:
        channels = await crowd.open(url, undo)
        beating = asyncio.create_task(crowd.beat(channels))
        await asyncio.sleep(warm_s)
        crowd.counting = True
        began, used = time.perf_counter(), cpu_s(pid)
        await asyncio.sleep(seconds)
        share = (cpu_s(pid) - used) / (time.perf_counter() - began)
        crowd.counting = False
        beating.cancel()
        await asyncio.wait([beating])
        await crowd.rest()
    return share
