"""What follows a commit: nudges go out, the relay hears of it, and timers run at their own pace."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from allocator.database import Database
from allocator.outbox import Outbox
from allocator.work import Notice
from broker.outcome import Unavailable
from schemas.errors import Code, ServiceError
from schemas.message import Answer, Message
from tests.node_fakes import until


class NoAnswers:
    """A database in which nobody waits for an answer; it counts who asks."""

    def __init__(self) -> None:
        self.asked = 0

    def run(self, work: Callable[[Any], Any]) -> list[Any]:
        self.asked += 1
        return []


class Nudged:
    """A post that remembers whom it nudged."""

    def __init__(self) -> None:
        self.nodes: list[str] = []

    async def answer(self, reply_to: str, correlation_id: str, request_name: str, answer: Answer) -> None:
        raise AssertionError("nobody waits")

    async def nudge(self, node: str, message: Message) -> None:
        self.nodes.append(node)


class Parts:
    """An outbox and all that it talks to."""

    def __init__(self) -> None:
        self.database, self.post, self.touched, self.ticks = NoAnswers(), Nudged(), [], 0
        self.fails: list[Exception] = []
        self.outbox = Outbox(cast(Database, self.database), self.post, asyncio.get_running_loop(), self._note)

    def _note(self, network_ids: Collection[int]) -> None:
        self.touched.extend(network_ids)

    def tick(self) -> None:
        self.ticks += 1
        if self.fails:
            raise self.fails.pop()


@asynccontextmanager
async def running() -> AsyncIterator[Parts]:
    parts = Parts()
    task = asyncio.create_task(parts.outbox.run(parts.tick))
    try:
        yield parts
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_nodes_are_nudged_and_the_relay_hears_which_networks_were_touched():
    async with running() as parts:
        await asyncio.to_thread(parts.outbox.after_commit, [Notice("n1", "prod", 1)], [7])
        await asyncio.to_thread(parts.outbox.after_commit, [Notice("n2", "prod", 1)])
        await until(lambda: parts.post.nodes == ["n1", "n2"])
    assert parts.touched == [7]


async def test_many_nodes_are_nudged_at_once_and_one_that_fails_keeps_no_other_from_it():
    async with running() as parts:
        everybody, reached = asyncio.Event(), []

        async def nudge(node: str, message: Message) -> None:
            reached.append(node)
            if len(reached) == 3:
                everybody.set()
            await everybody.wait()
            if node == "n1":
                raise ServiceError(Code.UNAVAILABLE, "the broker did not confirm")
            parts.post.nodes.append(node)

        parts.post.nudge = nudge
        parts.outbox.after_commit([Notice(f"n{number}", "prod", 1) for number in (1, 2, 3)])
        await until(lambda: sorted(parts.post.nodes) == ["n2", "n3"])
        asked = parts.database.asked
        parts.outbox.after_commit([], answered=True)
        await until(lambda: parts.database.asked > asked)


async def test_answers_that_come_close_together_cost_one_look():
    async with running() as parts:
        await until(lambda: parts.database.asked == 1)
        for _ in range(100):
            await asyncio.to_thread(partial(parts.outbox.after_commit, [], answered=True))
        await until(lambda: parts.database.asked > 1)
        assert parts.database.asked < 20


async def test_a_commit_that_leaves_nothing_to_send_wakes_nobody():
    parts = Parts()
    parts.outbox.after_commit([], [7])
    await asyncio.sleep(0)
    assert not parts.outbox._wake.is_set()
    parts.outbox.after_commit([], [7], answered=True)
    await asyncio.sleep(0)
    assert parts.outbox._wake.is_set()


async def test_timers_that_fail_are_tried_again_and_nudges_go_out_meanwhile():
    async with running() as parts:
        parts.fails = [RuntimeError("nobody expected this"), Unavailable("away")]
        parts.outbox.after_commit([Notice("n1", "prod", 1)])
        await until(lambda: parts.post.nodes == ["n1"])
        await until(lambda: parts.ticks >= 3)
