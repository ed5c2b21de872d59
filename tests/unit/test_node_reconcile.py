"""Node and allocator compare their attachments: what is stale ends, what is unknown is told."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from node_worker import attachments
from node_worker.attachments import Attachment, State
from node_worker.plan import host_link_name
from schemas.address import AddressRelease
from schemas.errors import Code, ServiceError
from schemas.message import MAX_BODY_BYTES
from schemas.node import NodeHeartbeat, NodeSync, attachments_digest
from tests.node_allocator import FakeAllocator
from tests.node_fakes import FakeHost, all_released, call, node, refused, rows, until, wiring


def comparisons(allocator: FakeAllocator) -> list[NodeSync]:
    return [request for request in allocator.of(NodeSync) if request.attachments is not None]


async def compared(worker: Any) -> None:
    """Let one whole comparison pass."""
    assert await worker.reconcile._round()


def once(during: Callable[[], Any], *, details: bool = False) -> Callable[[Any], Any]:
    """A hook that runs `during` at the first comparison, or at the first that tells details."""
    met = []

    async def hook(request: NodeSync) -> None:
        if request.attachments is not None and bool(request.details) == details and not met:
            met.append(request)
            await during()

    return hook


async def test_a_comparison_names_those_whose_allocate_was_answered(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (row,) = await rows(worker)
        for state in (State.ALLOCATING, State.REMOVING, State.WIRING):
            other = replace(row, attachment_id=uuid4(), container_id=state.value, state=state)
            await worker.parts.journal.run(attachments.begin, other)
        await compared(worker)
        held = await worker.parts.journal.run(attachments.held_ids)
    named = comparisons(allocator)[-1].attachments
    assert named is not None
    assert set(named) == set(held) == {row.attachment_id, other.attachment_id}


async def test_a_round_about_networks_names_no_attachments(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        before, about = len(allocator.of(NodeSync)), len(comparisons(allocator))
        worker.parts.sync.wake()
        await until(lambda: len(allocator.of(NodeSync)) > before)
    assert len(comparisons(allocator)) == about == 1, "the one at start"


async def test_a_stale_attachment_ends_and_its_neighbour_goes_on(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="stale"))
        await worker.handlers.add(call(container="good", pod="web-1"))
        stale, good = await rows(worker)
        allocator.end(stale.attachment_id)
        with capture_logs() as logs:
            await compared(worker)
        assert await rows(worker) == [good]
        await all_released(worker)
    assert list(host.endpoints) == [good.host_link]
    assert stale.host_link in host.cut_links
    assert good.host_link not in host.cut_links
    assert [entry["container_id"] for entry in logs if "stale" in entry["event"]] == ["stale"]


async def test_a_container_attached_again_before_the_answer_is_not_what_the_answer_judges(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (old,) = await rows(worker)
        allocator.end(old.attachment_id)

        async def again() -> None:
            await worker.handlers.delete(call("DEL"))
            await worker.handlers.add(call())

        allocator.late["node.sync"] = once(again)
        await compared(worker)
        (new,) = await rows(worker)
    assert new.attachment_id != old.attachment_id
    assert new.state is State.ATTACHED
    assert list(host.endpoints) == [new.host_link]
    assert new.host_link not in host.cut_links
    assert list(allocator.attachments) == [new.attachment_id]


async def test_an_attachment_that_the_request_did_not_name_is_not_judged_by_its_answer(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    new: list[UUID] = []
    async with node(path, allocator, host) as worker:

        async def add() -> None:
            await worker.handlers.add(call())
            new.extend(row.attachment_id for row in await rows(worker))
            allocator.ended.update(new)  # wrongly: this answer could not know it

        page = allocator._compared
        allocator.hooks["node.sync"] = once(add)
        allocator._compared = lambda request: page(request) | {"stale": tuple(new), "unknown": tuple(new)}  # type: ignore[method-assign]
        await compared(worker)
        assert [row.attachment_id for row in await rows(worker)] == new
    assert len(host.endpoints) == len(new) == 1


async def test_an_add_that_goes_on_with_an_id_that_ended_is_refused_by_its_allocate_alone(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    answered, go_on = asyncio.Event(), asyncio.Event()

    async def hold(request: Any) -> None:
        answered.set()
        await go_on.wait()

    async with node(path, allocator, host) as worker:
        host.fail = {"attach": refused(), "cut": refused()}  # nor can it be undone
        with pytest.raises(ServiceError):
            await worker.handlers.add(call())
        host.fail = {}
        (row,) = await rows(worker)
        assert row.state is State.WIRING
        allocator.end(row.attachment_id)
        allocator.hooks["address.allocate"] = hold
        adding: list[asyncio.Task[Any]] = []

        async def again() -> None:
            adding.append(asyncio.create_task(worker.handlers.add(call())))
            await answered.wait()
            host.steps.clear()

        allocator.late["node.sync"] = once(again)
        await compared(worker)
        assert wiring(host) == []
        assert [item.state for item in await rows(worker)] == [State.ALLOCATING]
        go_on.set()
        with pytest.raises(ServiceError) as caught:
            await adding[0]
        assert caught.value.code == Code.ATTACHMENT_RELEASED
        assert await rows(worker) == []


async def test_a_del_during_a_comparison_is_done_once_and_frees_nobody_else(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        await worker.handlers.add(call(container="other", pod="web-1"))

        async def delete() -> None:
            await worker.handlers.delete(call("DEL"))

        allocator.hooks["node.sync"] = once(delete)
        await compared(worker)
        await all_released(worker)
        assert [row.container_id for row in await rows(worker)] == ["other"]
    assert len(allocator.of(AddressRelease)) == 1
    assert allocator.holders() == {"shop/web-1": "other"}
    assert len(host.endpoints) == 1


async def test_an_attachment_that_ends_while_it_is_wired_is_undone(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    loop = asyncio.get_running_loop()
    async with node(path, allocator, host) as worker:

        def compare(step: str) -> None:
            if step == "attach":  # in its thread: the link is made after the comparison took it away
                host.hook = lambda step: None
                allocator.end(next(iter(allocator.attachments)))
                asyncio.run_coroutine_threadsafe(compared(worker), loop).result(5)

        host.hook = compare
        with pytest.raises(ServiceError, match="was ended while it was being attached") as caught:
            await worker.handlers.add(call())
        assert caught.value.code == Code.ATTACHMENT_RELEASED
        assert await rows(worker) == []
        await all_released(worker)
    assert host.endpoints == {}
    assert host.steps[-1] == "detach"


async def test_an_unknown_attachment_is_told_of_and_complained_about_once(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (row,) = await rows(worker)
        allocator.attachments.clear()
        with capture_logs() as logs:
            await compared(worker)
            await compared(worker)
        assert await rows(worker) == [row], "its pod goes on"
    (told,) = comparisons(allocator)[-1].details
    assert told.attachment_id == row.attachment_id
    assert (told.network, told.owner, told.container_id, told.ifname) == ("prod", "shop/web-0", "c1", "eth0")
    assert ([str(address) for address in told.addresses], told.mac) == (["10.20.0.10"], row.mac)
    assert allocator.flagged == {row.attachment_id}
    (complaint,) = [entry for entry in logs if "does not know this attachment" in entry["event"]]
    assert (complaint["container_id"], complaint["log_level"]) == ("c1", "warning")
    assert "delete the pod" in complaint["advice"]


async def test_after_a_restore_an_unknown_attachment_is_adopted_and_the_digests_agree_again(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (row,) = await rows(worker)
        allocator.attachments.clear()
        allocator.paused = True
        with capture_logs() as logs:
            await compared(worker)
        ours = await worker.reconcile.digest()
    assert list(allocator.attachments) == [row.attachment_id]
    assert ours == attachments_digest(allocator.attachments)
    assert not [entry for entry in logs if "does not know" in entry["event"]]
    assert list(host.endpoints) == [row.host_link]


async def test_a_pod_deleted_while_it_is_told_of_leaves_no_adopted_address_behind(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        allocator.attachments.clear()
        allocator.paused = True

        async def delete() -> None:
            await worker.handlers.delete(call("DEL"))  # its release finds nothing to free yet

        allocator.hooks["node.sync"] = once(delete, details=True)
        await compared(worker)
        await all_released(worker)
    assert allocator.attachments == {}


async def test_more_attachments_than_one_request_may_name_or_tell_of_are_all_told(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (row,) = await rows(worker)

        def many(connection: Any) -> None:
            for number in range(1100):
                named = uuid4()
                other = replace(
                    row,
                    attachment_id=named,
                    container_id=f"{number:064}",
                    owner=f"{'n' * 63}/{'p' * 200}-{number}",
                    host_link=host_link_name(named),
                    state=State.ATTACHED,
                )
                attachments.begin(connection, other)

        await worker.parts.journal.run(many)
        known = set(await worker.parts.journal.run(attachments.held_ids))
        before = len(allocator.asked)
        await compared(worker)
        requests = [item for item in allocator.asked[before:] if isinstance(item, NodeSync)]
    assert {named for item in requests for named in item.attachments or ()} == known
    assert max(len(item.attachments or ()) for item in requests) == 1000
    assert {told.attachment_id for item in requests for told in item.details} == known - {row.attachment_id}
    assert max(len(item.details) for item in requests) <= 100
    assert max(len(item.model_dump_json(exclude_none=True)) for item in requests) <= MAX_BODY_BYTES
    assert len(requests) < 60


async def test_heartbeats_that_keep_differing_bring_a_comparison_and_one_alone_does_not(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        (row,) = await rows(worker)
        await worker.parts.pulse._beat()
        assert allocator.of(NodeHeartbeat)[-1].attachments == attachments_digest([row.attachment_id])
        allocator.end(row.attachment_id)
        before = len(comparisons(allocator))
        await worker.parts.pulse._beat()
        assert not worker.reconcile._bell._event.is_set()
        await worker.parts.pulse._beat()
        await until(lambda: host.endpoints == {})
        assert len(comparisons(allocator)) == before + 1
        await all_released(worker)
        await worker.handlers.add(call())


async def test_equal_digests_bring_no_comparison(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        for _ in range(3):
            await worker.parts.pulse._beat()
        assert not worker.reconcile._bell._event.is_set()
    assert len(comparisons(allocator)) == 1


async def test_an_older_allocator_that_tells_no_digest_brings_no_comparison(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    allocator.compares = False
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        allocator.end(next(iter(allocator.attachments)))
        for _ in range(3):
            await worker.parts.pulse._beat()
        assert not worker.reconcile._bell._event.is_set()


async def test_an_allocator_that_knows_nothing_of_the_session_hears_all_at_once(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        allocator.sessions.clear()
        before = len(comparisons(allocator))
        await worker.parts.pulse._beat()
        await until(lambda: len(comparisons(allocator)) > before)
        await until(lambda: allocator.sessions == {"node-a": worker.session.id})


async def test_a_heartbeat_goes_out_without_a_digest_when_the_journal_cannot_be_read(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.parts.journal.run(lambda db: db.execute("ALTER TABLE attachments RENAME TO away"))
        await worker.parts.pulse._beat()
        await worker.parts.journal.run(lambda db: db.execute("ALTER TABLE away RENAME TO attachments"))
    assert allocator.of(NodeHeartbeat)[-1].attachments is None


async def test_of_many_that_end_one_that_the_kernel_keeps_is_heard_of_when_the_others_are_gone(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        for number in range(3):
            await worker.handlers.add(call(container=f"c{number}", pod=f"web-{number}"))
        stuck, *others = await rows(worker)
        cut = host.cut

        def stubborn(row: Attachment) -> None:
            if row == stuck:
                raise refused()
            cut(row)

        host.cut = stubborn  # type: ignore[method-assign]
        with pytest.raises(ServiceError):
            await worker.parts.teardown.retire_all([stuck, *others])
        assert list(host.endpoints) == [stuck.host_link]
        assert [row.attachment_id for row in await rows(worker)] == [stuck.attachment_id]


async def test_an_attachment_that_ends_before_its_links_are_made_leaves_none(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    """Whoever ends it finds no links to remove; they come a moment later."""
    loop = asyncio.get_running_loop()
    async with node(path, allocator, host) as worker:

        def end(step: str) -> None:
            if step == "prepare":
                host.hook = lambda step: None
                (row,) = asyncio.run_coroutine_threadsafe(rows(worker), loop).result(5)
                asyncio.run_coroutine_threadsafe(worker.parts.teardown.retire(row), loop).result(5)

        host.hook = end
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call())
        assert caught.value.code == Code.ATTACHMENT_RELEASED
        assert await rows(worker) == []
        await all_released(worker)
    assert host.endpoints == host.prepared == allocator.attachments == {}
