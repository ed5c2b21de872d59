"""ADD is served only when the node's attachments were compared; DEL is always served."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node_worker import gate, pulse, reconcile
from node_worker.clock import boottime
from node_worker.gate import Gate
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator, unavailable
from tests.node_fakes import LOOPS, FakeHost, call, node, rows, serving, until, wiring


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds in place of seconds."""
    monkeypatch.setattr(reconcile, "_PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(pulse, "_EVERY_S", 0.03)
    monkeypatch.setattr(pulse, "_AGAIN_S", 0.01)


class Held:
    """Comparisons wait here, when they were asked for, until `let` is set."""

    def __init__(self, allocator: FakeAllocator) -> None:
        self.met, self.let = asyncio.Event(), asyncio.Event()
        allocator.hooks["node.sync"] = self._wait

    async def _wait(self, request: Any) -> None:
        if request.attachments is not None:
            self.met.set()
            await self.let.wait()


def wired_at_allocate(allocator: FakeAllocator, host: FakeHost) -> list[set[str]]:
    """What is wired whenever an address is asked for."""
    seen: list[set[str]] = []
    allocator.hooks["address.allocate"] = lambda _: seen.append({pod for pod, _ in host.endpoints.values()})
    return seen


async def test_a_new_worker_ends_stale_endpoints_before_it_serves_add(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="stale"))
        await worker.handlers.add(call(container="good", pod="web-1"))
        (stale, _) = await rows(worker)
    allocator.end(stale.attachment_id)
    held, wired = Held(allocator), wired_at_allocate(allocator, host)
    async with node(path, allocator, host, (*LOOPS, "pulse"), served=False) as worker:
        await held.met.wait()
        await until(lambda: worker.parts.pulse.healthy)
        adding = asyncio.create_task(worker.handlers.add(call(container="new", pod="web-2")))
        await until(lambda: "prod" in host.networks)
        assert not wired
        assert stale.host_link not in host.cut_links
        held.let.set()
        await adding
    assert wired == [{"/run/netns/good"}]
    assert allocator.holders() == {"shop/web-1": "good", "shop/web-2": "new"}


async def test_a_worker_that_cannot_compare_answers_add_with_try_again(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_WAIT_S", 0.05)

    def refuse(request: Any) -> None:
        if request.attachments is not None:
            raise unavailable()

    allocator.hooks["node.sync"] = refuse
    async with node(path, allocator, host, served=False) as worker:
        await until(lambda: worker.parts.pulse.healthy)
        await until(lambda: worker.parts.gate.hindrance)
        with pytest.raises(ServiceError, match="the broker is away") as caught:
            await worker.handlers.add(call())
        assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)
        allocator.hooks.clear()
        await serving(worker)
        await worker.handlers.add(call())


async def test_a_stale_endpoint_that_the_kernel_keeps_holds_up_add_and_is_named(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_WAIT_S", 0.05)
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="stale"))
    allocator.end(next(iter(allocator.attachments)))
    host.fail["cut"] = ServiceError(Code.KERNEL_REFUSED, "link is busy")
    async with node(path, allocator, host, served=False) as worker:
        await until(lambda: worker.parts.gate.hindrance)
        with pytest.raises(ServiceError, match="link is busy") as caught:
            await worker.handlers.add(call(container="new"))
        assert caught.value.code == Code.UNAVAILABLE
        host.fail.clear()
        await serving(worker)
        assert host.endpoints == {}
        await worker.handlers.add(call(container="new"))


async def test_a_failure_nobody_foresaw_does_not_end_the_comparisons(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="stale"))
    allocator.end(next(iter(allocator.attachments)))
    host.fail["cut"] = ZeroDivisionError()
    async with node(path, allocator, host, served=False) as worker:
        await until(lambda: "ZeroDivisionError" in (worker.parts.gate.hindrance or ""))
        host.fail.clear()
        await worker.handlers.add(call(container="new"))


async def test_after_a_reconnect_add_waits_for_the_comparison_and_del_does_not(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host, (*LOOPS, "pulse")) as worker:
        await worker.handlers.add(call(container="stale"))
        await worker.handlers.add(call(container="other", pod="web-1"))
        (stale, _) = await rows(worker)
        allocator.end(stale.attachment_id)
        held, wired = Held(allocator), wired_at_allocate(allocator, host)
        worker.parts.pulse.wake()
        adding = asyncio.create_task(worker.handlers.add(call(container="new")))
        await held.met.wait()
        async with asyncio.timeout(1):
            await worker.handlers.delete(call("DEL", container="other"))
        assert not wired
        assert not adding.done()
        held.let.set()
        await adding
    assert wired == [set()]
    assert allocator.holders() == {"shop/web-0": "new"}


async def test_an_add_under_way_at_a_reconnect_is_wired_only_after_the_comparison(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host, (*LOOPS, "pulse")) as worker:
        await worker.handlers.add(call(container="stale"))
        (stale,) = await rows(worker)
        allocator.end(stale.attachment_id)
        held = Held(allocator)
        host.steps.clear()
        allocator.late["address.allocate"] = lambda _: worker.parts.pulse.wake()
        adding = asyncio.create_task(worker.handlers.add(call(container="new")))
        await held.met.wait()
        assert wiring(host) == ["open_pod"]
        held.let.set()
        await adding
    assert wiring(host) == ["open_pod", "cut", "detach", "attach"]


async def test_a_worker_that_was_cut_off_compares_before_it_serves_add_again(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host, (*LOOPS, "pulse")) as worker:
        await worker.handlers.add(call(container="stale"))
        allocator.down = True
        await until(lambda: not worker.parts.pulse.healthy)
        allocator.end(next(iter(allocator.attachments)))
        wired = wired_at_allocate(allocator, host)
        allocator.down = False
        await until(lambda: worker.parts.pulse.healthy)
        await worker.handlers.add(call(container="new"))
    assert wired == [set()]


async def test_an_add_whose_allocate_is_answered_before_a_cut_off_node_has_compared_waits(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold(request: Any) -> None:
        asked.set()
        await go_on.wait()

    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="stale", pod="web-1"))
        host.steps.clear()
        allocator.late["address.allocate"] = hold
        adding = asyncio.create_task(worker.handlers.add(call(container="new")))
        await asked.wait()
        allocator.down = True
        while worker.parts.pulse.healthy:
            await worker.parts.pulse._beat()
        allocator.end(next(iter(allocator.attachments)))
        allocator.down = False
        go_on.set()
        held = Held(allocator)
        beating = asyncio.create_task(worker.parts.pulse._beat())
        await held.met.wait()
        await beating
        assert wiring(host) == ["open_pod"]
        held.let.set()
        await adding
    assert wiring(host) == ["open_pod", "cut", "detach", "attach"]


async def test_a_machine_that_stood_still_serves_no_add_before_it_has_heard_and_compared(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="stale"))
        allocator.end(next(iter(allocator.attachments)))
        wired = wired_at_allocate(allocator, host)
        worker.parts.pulse._now = lambda: boottime() + 60
        with pytest.raises(ServiceError, match="does not reach the allocator"):
            await worker.handlers.add(call(container="new"))
        await worker.parts.pulse._beat()
        await worker.handlers.add(call(container="new"))
    assert wired == [set()]


async def test_a_comparison_begun_before_a_reconnect_does_not_count_after_it(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_WAIT_S", 0.1)
    async with node(path, allocator, host) as worker:
        held = Held(allocator)
        worker.reconcile.wake()
        await held.met.wait()
        worker.parts.pulse.wake()
        held.let.set()
        with pytest.raises(ServiceError, match="has yet to hear"):
            await worker.handlers.add(call())
        await worker.parts.pulse._beat()
        await worker.handlers.add(call())


async def test_those_who_wait_are_told_of_a_fence_at_once() -> None:
    door = Gate("node-a")
    waiting = asyncio.create_task(door.passed())
    await asyncio.sleep(0)
    door.close(fenced=True)
    with pytest.raises(ServiceError, match="fenced"):
        async with asyncio.timeout(1):
            await waiting


async def test_after_a_fence_is_over_a_reconnect_is_waited_for_again() -> None:
    door = Gate("node-a")
    door.close(fenced=True)
    door.open(door.closings)
    door.close()
    waiting = asyncio.create_task(door.passed())
    await asyncio.sleep(0)
    door.open(door.closings)
    await waiting


async def test_the_gate_is_empty_when_the_last_add_is_over() -> None:
    door = Gate("node-a")
    door.open(door.closings)
    emptied: asyncio.Task[None] | None = None
    async with door.adding():
        async with door.adding():
            emptied = asyncio.create_task(door.emptied())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not emptied.done()
    async with asyncio.timeout(1):
        await emptied


def test_an_older_closing_does_not_open_it() -> None:
    door = Gate("node-a")
    closings = door.closings
    door.close()
    door.open(closings)
    with pytest.raises(ServiceError):
        door.check()
    door.open(door.closings)
    door.check()
