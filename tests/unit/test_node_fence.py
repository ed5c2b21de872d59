"""A node that was declared off ends all it has, changes its session and goes on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node_worker import reconcile
from node_worker.attachments import State
from schemas.address import AddressAllocate
from schemas.errors import Code, ServiceError
from schemas.node import Heard, NodeHeartbeat, NodeSync
from tests.node_allocator import DATABASE_TIME, FakeAllocator
from tests.node_fakes import LOOPS, FakeHost, all_released, call, node, refused, rows, serving, until


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds in place of seconds."""
    monkeypatch.setattr(reconcile, "_PAUSE_S", (0.01, 0.02))


async def fenced(worker: Any, allocator: FakeAllocator) -> None:
    """Declare the node off, and let it hear of it."""
    allocator.fence("node-a")
    await worker.parts.pulse._beat()


async def first_pass_over(worker: Any, *, left: int) -> None:
    """Wait until the first pass of the clean-up is over; it goes no further while an ADD is under way."""

    async def ended() -> bool:
        return len(await rows(worker)) <= left

    await until(ended)
    for _ in range(5):
        await worker.parts.pulse._beat()


class Blocked:
    """One verb of the host waits, in its thread, until `let` is set."""

    def __init__(self, host: FakeHost, verb: str) -> None:
        self.met, self.let = asyncio.Event(), asyncio.Event()
        self._host, self._verb, self._loop = host, verb, asyncio.get_running_loop()
        host.hook = self._step

    def _step(self, step: str) -> None:
        if step == self._verb:
            self._host.hook = lambda step: None
            self._loop.call_soon_threadsafe(self.met.set)
            asyncio.run_coroutine_threadsafe(self.let.wait(), self._loop).result(5)


async def test_a_fenced_node_ends_every_endpoint_and_serves_add_under_a_new_session(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        for number in range(3):
            await worker.handlers.add(call(container=f"c{number}", pod=f"web-{number}"))
        old = worker.session.id
        wired: list[int] = []
        allocator.hooks["address.allocate"] = lambda _: wired.append(len(host.endpoints))
        await fenced(worker, allocator)
        await serving(worker)
        assert await rows(worker) == []
        assert worker.session.id != old
        assert allocator.sessions == {"node-a": worker.session.id}
        assert allocator.of(NodeSync)[-1].session == worker.session.id
        await worker.handlers.add(call(container="new"))
        await worker.parts.pulse._beat()
        assert allocator.of(NodeHeartbeat)[-1].session == worker.session.id
        await all_released(worker)
        assert [row.container_id for row in await rows(worker)] == ["new"]
    assert wired == [0]
    assert allocator.holders() == {"shop/web-0": "new"}


async def test_while_a_fenced_node_cleans_up_add_fails_at_once_and_del_is_served(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        await worker.handlers.add(call(container="c2", pod="web-1"))
        blocked = Blocked(host, "cut")
        await fenced(worker, allocator)
        await blocked.met.wait()
        with pytest.raises(ServiceError, match=r"fenced.* try again") as caught:
            async with asyncio.timeout(1):
                await worker.handlers.add(call(container="new", pod="web-2"))
        assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)
        async with asyncio.timeout(1):
            await worker.handlers.delete(call("DEL", container="c2"))
        blocked.let.set()
        await serving(worker)
    assert host.endpoints == {}
    assert len(allocator.of(AddressAllocate)) == 2


async def test_an_add_whose_allocate_is_under_way_gives_up_and_leaks_nothing(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold(request: Any) -> None:
        asked.set()
        await go_on.wait()

    async with node(path, allocator, host) as worker:
        old = worker.session.id
        await worker.handlers.add(call(container="other", pod="web-1"))
        host.steps.clear()
        allocator.hooks["address.allocate"] = hold
        adding = asyncio.create_task(worker.handlers.add(call()))
        await asked.wait()
        await fenced(worker, allocator)
        await first_pass_over(worker, left=1)
        assert [row.state for row in await rows(worker)] == [State.ALLOCATING]
        go_on.set()
        with pytest.raises(ServiceError, match="fenced") as caught:
            await adding
        assert caught.value.code == Code.UNAVAILABLE
        await until(lambda: worker.session.id != old)
        await all_released(worker)
        assert await rows(worker) == []
    assert allocator.attachments == {}
    assert "attach" not in host.steps


async def test_an_add_that_cannot_be_undone_is_ended_before_the_node_goes_on(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        old = worker.session.id

        async def fence(request: Any) -> None:
            allocator.late.clear()
            host.fail["cut"] = refused()
            await fenced(worker, allocator)

        allocator.late["address.allocate"] = fence
        with pytest.raises(ServiceError, match="fenced"):
            await worker.handlers.add(call())
        await until(lambda: host.steps.count("cut") > 2)
        assert [row.state for row in await rows(worker)] == [State.ALLOCATING]
        assert worker.session.id == old
        host.fail.clear()
        await serving(worker)
        assert await rows(worker) == []
        await all_released(worker)
    assert allocator.attachments == {}


async def test_an_endpoint_made_while_the_node_cleans_up_is_gone_before_it_goes_on(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        old = worker.session.id
        blocked = Blocked(host, "attach")
        adding = asyncio.create_task(worker.handlers.add(call()))
        await blocked.met.wait()
        await fenced(worker, allocator)
        await first_pass_over(worker, left=0)
        assert worker.session.id == old
        blocked.let.set()
        with pytest.raises(ServiceError, match="fenced"):
            await adding
        assert host.endpoints == {}
        await until(lambda: worker.session.id != old)


async def test_what_the_kernel_refuses_is_tried_again_and_holds_up_the_new_session(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        old = worker.session.id
        host.fail["cut"] = refused()
        await fenced(worker, allocator)
        await until(lambda: host.steps.count("cut") > 2)
        assert worker.session.id == old
        with pytest.raises(ServiceError, match=r"fenced.*kernel_refused"):
            await worker.handlers.add(call(container="new"))
        host.fail.clear()
        await serving(worker)
        assert worker.session.id != old
        await worker.handlers.add(call(container="new"))
    assert len(host.endpoints) == 1


async def test_further_heartbeats_about_the_same_fence_end_nothing_twice(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        old = worker.session.id
        await fenced(worker, allocator)
        await worker.parts.pulse._beat()
        await until(lambda: worker.session.id != old)
        new = worker.session.id
        await serving(worker)
        await worker.handlers.add(call())
        worker.reconcile.fenced(old)  # an answer that was late
        await worker.parts.pulse._beat()
        await worker.handlers.add(call(container="c2", pod="web-1"))
        assert worker.session.id == new
    assert len(host.endpoints) == 2


async def test_a_second_fence_is_heard_as_well(path: Path, allocator: FakeAllocator, host: FakeHost) -> None:
    async with node(path, allocator, host) as worker:
        sessions = {worker.session.id}
        for number in range(2):
            await worker.handlers.add(call(container=f"c{number}"))
            await fenced(worker, allocator)
            await until(lambda: worker.session.id not in sessions)
            sessions.add(worker.session.id)
            await serving(worker)
        await worker.handlers.add(call(container="new"))
    assert len(sessions) == 3
    assert len(host.endpoints) == 1


async def test_a_node_that_was_fenced_while_it_was_cut_off_cleans_up_before_it_serves_add(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host, (*LOOPS, "pulse")) as worker:
        await worker.handlers.add(call())
        old = worker.session.id
        allocator.fence("node-a")
        wired: list[tuple[int, bool]] = []
        allocator.hooks["address.allocate"] = lambda _: wired.append(
            (len(host.endpoints), worker.session.id == old)
        )
        worker.parts.pulse.wake()

        async def added() -> bool:
            try:
                await worker.handlers.add(call(container="new"))
            except ServiceError as error:
                assert error.code == Code.UNAVAILABLE
                return False
            return True

        await until(added)
    assert wired == [(0, False)]
    assert allocator.holders() == {"shop/web-0": "new"}


async def test_a_node_tells_what_it_heard_last_also_in_its_next_session(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await serving(worker)
        heard = Heard(epoch=1, at=DATABASE_TIME)
        assert worker.session.heard == heard, "its first sync told it"
        await worker.parts.pulse._beat()
        assert allocator.of(NodeHeartbeat)[-1].heard == heard
        allocator.epoch = 2
        asked = len(allocator.of(NodeSync))
        await fenced(worker, allocator)  # an answer that says so is none in which the node is known
        await serving(worker)
        assert allocator.of(NodeSync)[asked].heard == heard
        assert worker.session.heard == Heard(epoch=2, at=DATABASE_TIME)


async def test_an_allocator_that_tells_no_epoch_is_not_taken_at_its_word(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    allocator.epoch = None
    async with node(path, allocator, host) as worker:
        await serving(worker)
        await worker.parts.pulse._beat()
        assert allocator.of(NodeHeartbeat)[-1].heard is None
