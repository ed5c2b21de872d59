"""What only the allocator has after a restored backup is released, unless its pod may live on."""

import asyncio
import shutil
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from node_worker import attachments, leftovers
from node_worker.plan import host_link_name
from schemas.address import AddressAllocate, AddressRelease
from tests.node_allocator import FakeAllocator
from tests.node_fakes import FakeHost, all_released, call, node, owed, rows


def restored(allocator: FakeAllocator, node_name: str = "node-a") -> UUID:
    """An attachment that ended after the backup was made, and is back."""
    named = uuid4()
    allocator.paused = True
    allocator.attachments[named] = AddressAllocate(
        network="prod",
        owner="shop/gone-0",
        node=node_name,
        container_id="gone",
        ifname="eth0",
        attachment_id=named,
    )
    return named


async def lived(path: Path, allocator: FakeAllocator, host: FakeHost) -> None:
    """An earlier life of the worker, which its journal tells of."""
    async with node(path, allocator, host):
        pass


def spared(logs: Any) -> list[Any]:
    return [entry for entry in logs if "keeps its address" in entry["event"]]


async def test_a_leftover_is_released_by_its_id_and_nothing_else_is(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    await lived(path, allocator, host)
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        named, other = restored(allocator), restored(allocator, "node-b")
        assert await worker.reconcile._round()
        await all_released(worker)
        (row,) = await rows(worker)
    assert set(allocator.attachments) == {other, row.attachment_id}
    assert [request.attachment_id for request in allocator.of(AddressRelease)] == [named]


async def test_a_leftover_is_released_before_the_unknown_are_told_of(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    await lived(path, allocator, host)
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(pod="gone-0"))
        (row,) = await rows(worker)
        allocator.attachments.clear()
        restored(allocator)  # of the same owner: the backup knows its pod's sandbox before this one
        assert await worker.reconcile._round()
    assert list(allocator.attachments) == [row.attachment_id]


async def test_a_worker_with_a_new_journal_leaves_leftovers_alone_and_says_so_once(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
    host.endpoints.clear()  # no link can tell that the pod lives on
    shutil.rmtree(path.parent)
    allocator.paused = True
    with capture_logs() as logs:
        async with node(path, allocator, host) as worker:
            assert await worker.reconcile._round()
            assert await owed(worker) == []
    assert allocator.holders() == {"shop/web-0": "c1"}
    (told,) = spared(logs)
    assert (told["container_id"], told["because"]) == ("c1", "this node worker began with a new journal")


async def test_a_leftover_whose_link_exists_is_left_alone_in_a_later_life_too(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (row,) = await rows(worker)
    shutil.rmtree(path.parent)
    await lived(path, allocator, host)
    allocator.paused = True
    with capture_logs() as logs:
        async with node(path, allocator, host) as worker:
            assert await worker.reconcile._round()
            assert await owed(worker) == []
    assert list(allocator.attachments) == [row.attachment_id]
    (told,) = spared(logs)
    assert told["because"] == f"its host link {host_link_name(row.attachment_id)} exists"


async def test_an_add_that_the_allocator_has_answered_first_is_no_leftover(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    await lived(path, allocator, host)
    async with node(path, allocator, host) as worker:
        allocator.paused = True

        async def compare(request: Any) -> None:
            assert await worker.reconcile._round()

        allocator.late["address.allocate"] = compare
        await worker.handlers.add(call())
        assert await owed(worker) == []
        (row,) = await rows(worker)
    assert list(allocator.attachments) == [row.attachment_id]
    assert allocator.of(AddressRelease) == []


async def test_an_add_during_a_comparison_is_no_leftover_and_goes_unmentioned(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    await lived(path, allocator, host)
    async with node(path, allocator, host) as worker:
        allocator.paused = True

        async def add(request: Any) -> None:
            allocator.hooks.clear()
            await worker.handlers.add(call())

        allocator.hooks["node.sync"] = add
        with capture_logs() as logs:
            assert await worker.reconcile._round()
        (row,) = await rows(worker)
        assert await owed(worker) == []
    assert list(allocator.attachments) == [row.attachment_id]
    assert list(host.endpoints) == [row.host_link]
    assert spared(logs) == []


async def test_a_leftover_whose_release_is_owed_already_is_not_released_twice(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_RELEASE_S", 0.05)
    await lived(path, allocator, host)
    async with node(path, allocator, host) as worker:
        held = asyncio.Event()

        async def hold(request: Any) -> None:
            await held.wait()

        allocator.hooks["address.release"] = hold
        named = restored(allocator)
        for _ in range(2):
            assert await worker.reconcile._round()
            assert [release.attachment_id for release in await owed(worker)] == [named]
        held.set()
        await all_released(worker)
    assert len(allocator.of(AddressRelease)) == 1


async def test_a_leftover_release_survives_a_restart(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_RELEASE_S", 0.01)
    await lived(path, allocator, host)
    never = asyncio.Event()

    async def hang(request: Any) -> None:
        await never.wait()

    allocator.hooks["address.release"] = hang
    async with node(path, allocator, host) as worker:
        restored(allocator)
        assert await worker.reconcile._round()
    allocator.hooks.clear()
    async with node(path, allocator, host, ("releases",)) as worker:
        assert not worker.parts.journal.is_new
        await all_released(worker)
        assert await worker.parts.journal.run(attachments.owed) == []
    assert allocator.attachments == {}
