"""DEL against a fake allocator and a fake host: it succeeds, and what it owes is released."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from node_worker import handlers
from node_worker.attachments import State
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator
from tests.node_fakes import FakeHost, all_released, call, node, owed, refused, rows, until


async def test_a_del_takes_the_pod_away_and_frees_its_address(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        added, deleted = call(), call("DEL", netns="")
        await worker.handlers.add(added)
        (attachment_id,) = allocator.attachments
        await worker.handlers.delete(deleted)
        assert added.notes == deleted.notes == {"attachment_id": str(attachment_id)}
        assert allocator.attachments == {}, "answered before the DEL was"
        assert await rows(worker) == await owed(worker) == []
    assert host.endpoints == {}


async def test_a_del_cuts_the_endpoint_before_its_address_can_be_another_pods(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    cut_when_released = []
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (row,) = await rows(worker)
        allocator.hooks["address.release"] = lambda request: cut_when_released.append(
            row.host_link in host.cut_links
        )
        await worker.handlers.delete(call("DEL"))
    assert cut_when_released == [True]


async def test_a_del_twice_is_a_success_and_harms_no_successor(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        await worker.handlers.delete(call("DEL", container="old"))
        await worker.handlers.add(call(container="new"))
        await worker.handlers.delete(call("DEL", container="old"))
        assert [row.container_id for row in await rows(worker)] == ["new"]
        assert await owed(worker) == []
    assert allocator.holders() == {"shop/web-0": "new"}
    assert len(host.endpoints) == 1


async def test_a_del_while_the_broker_is_away_succeeds_and_is_released_later(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        allocator.down = True
        await worker.handlers.delete(call("DEL"))
        assert host.endpoints == {}
        assert len(await owed(worker)) == 1
        assert len(allocator.attachments) == 1
    async with node(path, allocator, host, loops=["releases"]):  # after a restart, and still away
        allocator.down = False
        await until(lambda: not allocator.attachments)


async def test_a_del_that_gets_no_answer_waits_no_longer_than_it_may(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_RELEASE_S", 0.05)
    never = asyncio.Event()

    async def hang(request: Any) -> None:
        await never.wait()

    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        allocator.hooks["address.release"] = hang
        async with asyncio.timeout(2):
            await worker.handlers.delete(call("DEL"))
        assert len(await owed(worker)) == 1


async def test_a_del_without_a_journal_releases_by_container(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
    shutil.rmtree(path.parent)
    async with node(path, allocator, host) as worker:
        await worker.handlers.delete(call("DEL"))
        assert await owed(worker) == []
    assert allocator.attachments == {}


async def test_a_failed_add_of_a_second_configuration_does_not_free_the_first(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        with pytest.raises(ServiceError):
            await worker.handlers.add(call(conf_name="other"))
        await worker.handlers.delete(call("DEL", conf_name="other"))
        assert [row.state for row in await rows(worker)] == [State.ATTACHED]
    assert allocator.holders() == {"shop/web-0": "c1"}


async def test_a_release_by_container_is_answered_before_that_container_is_attached_again(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_RELEASE_S", 0.05)
    never = asyncio.Event()

    async def hang(request: Any) -> None:
        await never.wait()

    async with node(path, allocator, host) as worker:
        allocator.hooks["address.release"] = hang
        await worker.handlers.delete(call("DEL"))  # unknown here: by container
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call())
        assert caught.value.code == Code.UNAVAILABLE
        never.set()
        await all_released(worker)
        await worker.handlers.add(call())
    assert allocator.holders() == {"shop/web-0": "c1"}


async def test_a_kernel_that_refuses_a_del_keeps_the_address_until_the_del_is_repeated(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        host.fail["cut"] = refused()
        with pytest.raises(ServiceError):
            await worker.handlers.delete(call("DEL"))
        assert len(allocator.attachments) == 1, "an address that is still heard is not freed"
        host.fail = {}
        await worker.handlers.delete(call("DEL"))
    assert allocator.attachments == host.endpoints == {}
