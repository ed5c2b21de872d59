"""A new sandbox of the same owner on the same node takes the address over."""

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from node_worker import attachments
from node_worker.attachments import State
from node_worker.plan import host_link_name
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator
from tests.node_fakes import FakeHost, all_released, call, node, rows, wiring


async def test_the_old_sandbox_is_removed_before_the_new_one_is_wired(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        (old,) = await rows(worker)
        host.steps.clear()
        await worker.handlers.add(call(container="new"))
        (row,) = await rows(worker)
        await all_released(worker)
    assert wiring(host) == ["open_pod", "cut", "detach", "attach"]
    assert list(host.endpoints) == [row.host_link]
    assert old.host_link in host.cut_links
    assert allocator.holders() == {"shop/web-0": "new"}


async def test_an_old_sandbox_that_the_journal_lost_is_removed_all_the_same(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        (old,) = await rows(worker)
        await worker.parts.journal.run(attachments.gone, old.attachment_id)
        await worker.handlers.add(call(container="new"))
    assert host_link_name(old.attachment_id) not in host.endpoints
    assert len(host.endpoints) == 1


async def test_an_add_that_was_overtaken_by_a_newer_sandbox_leaves_it_alone(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    loop = asyncio.get_running_loop()
    async with node(path, allocator, host) as worker:

        def overtake(step: str) -> None:
            if step == "attach":
                host.hook = lambda step: None
                newer = worker.handlers.add(call(container="new"))
                asyncio.run_coroutine_threadsafe(newer, loop).result(5)

        host.hook = overtake
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call(container="old"))
        assert caught.value.code == Code.ATTACHMENT_RELEASED
        (row,) = await rows(worker)
    assert row.container_id == "new"
    assert host.endpoints == {row.host_link: ("/run/netns/new", "eth0")}
    assert allocator.holders() == {"shop/web-0": "new"}


async def test_a_take_over_whose_answer_was_lost_ends_the_old_sandbox_before_the_address_is_free(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    still_wired: list[bool] = []
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        (old,) = await rows(worker)
        allocator.lost["address.allocate"] = ServiceError(Code.TIMEOUT, "no answer in time")
        allocator.hooks["address.release"] = lambda _: still_wired.append(old.host_link not in host.cut_links)
        with pytest.raises(ServiceError, match="no answer in time"):
            await worker.handlers.add(call(container="new"))
        await all_released(worker)
    assert still_wired
    assert not any(still_wired)
    assert host.endpoints == {}
    assert allocator.attachments == {}


async def test_a_worker_killed_before_the_answer_of_a_take_over_ends_the_old_sandbox_as_well(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        (old,) = await rows(worker)
        asking = replace(
            old, attachment_id=uuid4(), container_id="new", host_link="mo-new", state=State.ALLOCATING
        )
        await worker.parts.journal.run(attachments.begin, asking)
    async with node(path, allocator, host) as again:
        await all_released(again)
        assert await rows(again) == []
    assert host.endpoints == {}


async def test_a_refused_take_over_leaves_the_old_sandbox_alone(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    def refuse(_: object) -> None:
        raise ServiceError(Code.OWNER_FORBIDDEN, "not yours")

    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        (old,) = await rows(worker)
        allocator.hooks["address.allocate"] = refuse
        with pytest.raises(ServiceError, match="not yours"):
            await worker.handlers.add(call(container="new"))
        await all_released(worker)
    assert list(host.endpoints) == [old.host_link]
    assert old.host_link not in host.cut_links
