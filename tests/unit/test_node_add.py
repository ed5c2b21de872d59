"""ADD against a fake allocator and a fake host: its order, its refusals and how a failed one is undone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node_worker import attachments, handlers
from node_worker.attachments import Attachment, State
from schemas.address import AddressAllocate, AddressRelease
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator, present, unavailable
from tests.node_fakes import FakeHost, all_released, call, node, owed, refused, rows, until


async def test_an_add_gives_the_pod_its_address_and_journals_it(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        result = await worker.handlers.add(call())
        (row,) = await rows(worker)
    assert [str(ip.address) for ip in result.ips] == ["10.20.0.10/24"]
    assert result.interfaces[1].sandbox == "/run/netns/c1"
    assert (row.state, row.container_id, row.boot_id) == (State.ATTACHED, "c1", host.boot_id)
    assert [str(address) for address in row.addresses] == ["10.20.0.10/24"]
    assert host.endpoints == {row.host_link: ("/run/netns/c1", "eth0")}
    assert list(allocator.attachments) == [row.attachment_id]


async def test_the_attachment_id_is_on_the_disk_before_the_address_is_asked_for(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    known: list[Attachment | None] = []

    async with node(path, allocator, host) as worker:

        async def look(request: Any) -> None:
            known.append(await worker.parts.journal.run(attachments.by_id, request.attachment_id))

        allocator.hooks["address.allocate"] = look
        await worker.handlers.add(call())
    assert [row.state for row in known if row] == [State.ALLOCATING]


async def test_the_deadline_is_in_database_time_and_before_the_node_gives_up(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (asked,) = allocator.of(AddressAllocate)
        latest = worker.parts.clock.after(handlers.ALLOCATE_S)
    assert asked.deadline is not None
    assert latest is not None
    assert asked.deadline < latest
    assert asked.deadline.year == 2026, "not this machine's clock"


async def test_an_interface_that_is_there_already_is_refused_before_anything_is_asked(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    host.foreign.add(("/run/netns/c1", "eth0"))
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call())
        assert await rows(worker) == []
    assert caught.value.code == Code.INTERFACE_EXISTS
    assert allocator.of(AddressAllocate) == []


async def test_a_finished_add_repeated_is_refused_and_the_pod_goes_on(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        before = dict(host.endpoints)
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call())
        assert [row.state for row in await rows(worker)] == [State.ATTACHED]
    assert caught.value.code == Code.INTERFACE_EXISTS
    assert host.endpoints == before
    assert allocator.holders() == {"shop/web-0": "c1"}


async def test_a_container_whose_interface_vanished_is_attached_anew(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        host.endpoints.clear()
        result = await worker.handlers.add(call())
        await until(lambda: len(allocator.released) == 1)
        (row,) = await rows(worker)
    assert row.attachment_id not in allocator.released
    assert list(allocator.attachments) == [row.attachment_id]
    assert len(result.ips) == len(host.endpoints) == 1


async def test_an_unfinished_add_repeated_goes_on_with_its_attachment_id(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        host.fail = {"attach": refused(), "cut": refused()}  # nor can it be undone
        with pytest.raises(ServiceError):
            await worker.handlers.add(call())
        (row,) = await rows(worker)
        assert row.state is State.WIRING
        host.fail = {}
        await worker.handlers.add(call())
    first, second = allocator.of(AddressAllocate)
    assert first.attachment_id == second.attachment_id == row.attachment_id
    assert allocator.of(AddressRelease) == []


async def test_an_unfinished_add_is_released_when_the_container_now_wants_another_network(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    allocator.networks["test"] = present("test")
    async with node(path, allocator, host) as worker:
        host.fail = {"attach": refused(), "cut": refused()}
        with pytest.raises(ServiceError):
            await worker.handlers.add(call())
        host.fail = {}
        await worker.handlers.add(call(network="test"))
        await until(lambda: allocator.released)
    first, second = allocator.of(AddressAllocate)
    assert allocator.released == {first.attachment_id}
    assert list(allocator.attachments) == [second.attachment_id]


@pytest.mark.parametrize(
    "error",
    [
        refused(Code.EXHAUSTED),
        refused(Code.OWNER_ATTACHED_ELSEWHERE),
        ServiceError(Code.TIMEOUT, "no answer in time"),
        unavailable(),
    ],
    ids=lambda error: error.code,
)
async def test_a_failed_allocate_goes_out_unchanged_and_leaves_nothing(
    path: Path, allocator: FakeAllocator, host: FakeHost, error: ServiceError
) -> None:
    def fail(request: Any) -> None:
        raise error

    allocator.hooks["address.allocate"] = fail
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call())
        await until(lambda: allocator.released or allocator.of(AddressRelease))
        assert await rows(worker) == []
    assert caught.value is error
    assert host.endpoints == {}


async def test_an_answer_that_was_lost_is_taken_back(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    allocator.lost["address.allocate"] = ServiceError(Code.TIMEOUT, "no answer in time")
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError, match="no answer in time"):
            await worker.handlers.add(call())
        await all_released(worker)
    assert allocator.attachments == {}


async def test_a_kernel_that_refuses_leaves_no_address_behind(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    host.fail["attach"] = error = refused()
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call())
        await until(lambda: not allocator.attachments)
        assert await rows(worker) == []
    assert caught.value is error
    assert len(allocator.released) == 1


async def test_a_failed_add_owes_its_release_while_the_broker_is_away(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    def vanish(request: Any) -> None:
        allocator.down = True
        raise unavailable()

    allocator.hooks["address.allocate"] = vanish
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError):
            await worker.handlers.add(call())
        (release,) = await owed(worker)
        assert release.attachment_id == allocator.of(AddressAllocate)[0].attachment_id
        allocator.down = False
        worker.parts.releases.wake()
        await all_released(worker)
        assert len(allocator.of(AddressRelease)) >= 1


async def test_a_cancelled_add_is_undone_only_after_its_thread_has_ended(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    loop = asyncio.get_running_loop()
    wiring = asyncio.Event()
    go_on = asyncio.Event()

    def hold(step: str) -> None:
        if step == "attach":
            loop.call_soon_threadsafe(wiring.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)

    async with node(path, allocator, host) as worker:
        host.hook = hold
        adding = asyncio.create_task(worker.handlers.add(call()))
        await wiring.wait()
        for _ in range(3):
            adding.cancel()
            await asyncio.sleep(0.01)
        assert not adding.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
        await until(lambda: not allocator.attachments)
        assert await rows(worker) == []
    assert host.endpoints == {}


async def test_an_owner_that_no_message_can_carry_is_refused_and_nothing_is_left(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call(pod="no/such/name"))
        assert await rows(worker) == []
    assert caught.value.code == Code.INVALID_REQUEST


async def test_nothing_is_made_for_a_request_that_the_broker_never_had(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        allocator.down = True
        with pytest.raises(ServiceError):
            await worker.handlers.add(call())
        assert "prepare" not in host.steps
        allocator.down = False
        worker.parts.releases.wake()
        await all_released(worker)
        await worker.handlers.add(call())
    assert host.steps.count("prepare") == 1


async def test_links_are_made_before_the_answer_is_there(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async def answer_late(_: Any) -> None:
        await until(lambda: bool(host.prepared))

    allocator.late["address.allocate"] = answer_late
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())


async def test_links_are_made_also_where_the_answer_is_all_that_is_heard(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    allocator.confirms = False
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
    assert host.steps.count("prepare") == 1


async def test_before_the_first_answer_of_the_allocator_an_add_fails_at_once(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    allocator.down = True
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError) as caught:
            async with asyncio.timeout(1):
                await worker.handlers.add(call())
    assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)
    assert host.steps == []
