"""Pods that went without a DEL, and a machine that was started anew."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from node_worker.vanished import Vanished
from schemas.errors import ServiceError
from tests.node_allocator import FakeAllocator
from tests.node_fakes import FakeHost, all_released, call, node, refused, rows


async def added(worker: Any, host: FakeHost, count: int) -> list[str]:
    """Host links of that many new pods."""
    for number in range(count):
        await worker.handlers.add(call(container=f"c{number}", pod=f"web-{number}"))
    return [row.host_link for row in await rows(worker)]


def looking(worker: Any) -> Vanished:
    parts = worker.parts
    return Vanished("node-a", parts.journal, parts.host, parts.threads, parts.teardown)


async def test_a_pod_that_is_missing_twice_is_released_and_no_other(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        gone, _ = await added(worker, host, 2)
        vanished = looking(worker)
        await vanished.look()
        del host.endpoints[gone]
        await vanished.look()
        assert len(await rows(worker)) == 2, "one look is not enough"
        await vanished.look()
        assert [row.container_id for row in await rows(worker)] == ["c1"]
        await all_released(worker)
    assert len(allocator.attachments) == 1


async def test_what_was_missing_before_a_worker_was_killed_is_released_after_its_first_look(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        gone, _ = await added(worker, host, 2)
        del host.endpoints[gone]
        await looking(worker).look()
    async with node(path, allocator, host) as worker:
        await looking(worker).look()
        assert [row.container_id for row in await rows(worker)] == ["c1"]


async def test_one_that_was_there_in_between_is_looked_at_anew(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        (link,) = await added(worker, host, 1)
        vanished = looking(worker)
        for _ in range(3):
            there = host.endpoints.pop(link)
            await vanished.look()
            host.endpoints[link] = there
            await vanished.look()
        assert len(await rows(worker)) == 1


async def test_where_over_half_of_many_are_gone_nothing_is_released_and_that_is_said_once(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        links = await added(worker, host, 11)
        vanished = looking(worker)
        for link in links[:6]:
            del host.endpoints[link]
        with capture_logs() as logs:
            for _ in range(3):
                await vanished.look()
        assert len(await rows(worker)) == 11
        told = [line for line in logs if line["log_level"] == "error"]
        assert [(line["missing"], line["of"]) for line in told] == [(6, 11)]
        await worker.handlers.delete(call("DEL", container="c0"))
        await worker.handlers.delete(call("DEL", container="c1"))
        await vanished.look()
        assert len(await rows(worker)) == 5, "nine are not many, and those four were missing before"


async def test_one_whose_del_comes_meanwhile_is_left_to_it(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        (link,) = await added(worker, host, 1)
        vanished = looking(worker)
        del host.endpoints[link]
        await vanished.look()
        host.fail["detach"] = refused()
        with pytest.raises(ServiceError):
            await worker.handlers.delete(call("DEL", container="c0"))
        steps = len(host.steps)
        await vanished.look()
        assert host.steps[steps:] == ["missing"]


async def test_after_a_reboot_all_pods_of_the_old_boot_are_released_at_once(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, host, 12)
    rebooted = FakeHost()
    rebooted.boot_id = "another-boot"
    async with node(path, allocator, rebooted) as worker:
        assert await rows(worker) == []
        await all_released(worker)
        assert allocator.attachments == {}
        await added(worker, rebooted, 1)
    async with node(path, allocator, rebooted) as worker:
        assert len(await rows(worker)) == 1, "a worker that starts again on the same boot keeps its pods"
