"""ADD and DEL against a fake allocator and a fake host: their order, their undoing, every point of a kill."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from node_worker import attachments, handlers
from node_worker.attachments import Attachment, State
from node_worker.clock import DatabaseClock
from node_worker.plan import host_link_name
from schemas.address import AddressAllocate, AddressRelease
from schemas.errors import Code, ServiceError
from tests.node_fakes import FakeAllocator, FakeHost, call, copied, node, present, unavailable, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "journal.sqlite"


@pytest.fixture
def allocator() -> FakeAllocator:
    return FakeAllocator(present())


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


async def rows(worker: Any) -> list[Attachment]:
    return list(await worker.parts.journal.run(attachments.of_network, "prod"))


async def owed(worker: Any) -> list[Any]:
    return list(await worker.parts.journal.run(attachments.owed))


async def all_released(worker: Any, limit_s: float = 5.0) -> None:
    """Wait until no release is owed."""

    async def none() -> bool:
        return not await owed(worker)

    await until(none, limit_s)


def refused(code: str = Code.KERNEL_REFUSED) -> ServiceError:
    return ServiceError(code, "no")


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
    assert host.steps == ["open_pod", "cut", "detach", "attach"]
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


async def test_a_network_that_is_not_there_is_unknown(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call(network="nosuch"))
        assert caught.value.code == Code.NETWORK_UNKNOWN
        assert not caught.value.retryable
    assert allocator.of(AddressAllocate) == []


async def test_a_network_this_node_could_not_make_may_be_tried_again_and_says_why(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    host.fail["ensure"] = ServiceError(Code.UPLINK_MISSING, "this node has no eth1")
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError, match="this node has no eth1") as caught:
            await worker.handlers.add(call())
    assert (caught.value.code, caught.value.retryable) == (Code.NETWORK_NOT_READY, True)
    assert allocator.of(AddressAllocate) == []


async def test_a_network_made_a_moment_ago_is_fetched_by_the_add_itself(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        allocator.networks["late"] = present("late")
        result = await worker.handlers.add(call(network="late"))
    assert len(result.ips) == 1
    assert "late" in host.networks


async def test_an_answer_about_a_newer_network_waits_until_this_node_has_made_it(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        allocator.networks["prod"] = present(version=2, uplink="eth7")
        allocator.version = 2
        await worker.handlers.add(call())
    assert host.networks["prod"].driver.uplink == "eth7"
    assert host.steps[-1] == "attach"


async def test_a_bridge_that_vanished_is_made_again(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        host.networks.clear()
        host.fail["attach"] = refused(Code.NETWORK_NOT_READY)
        with pytest.raises(ServiceError):
            await worker.handlers.add(call())
        await until(lambda: "prod" in host.networks)


async def test_an_owner_that_no_message_can_carry_is_refused_and_nothing_is_left(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        with pytest.raises(ServiceError) as caught:
            await worker.handlers.add(call(pod="no/such/name"))
        assert await rows(worker) == []
    assert caught.value.code == Code.INVALID_REQUEST


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


async def test_a_del_takes_the_pod_away_and_frees_its_address(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        await worker.handlers.delete(call("DEL", netns=""))
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


class Kills:
    """Copies of journal, kernel and allocator as they are at each step: what a SIGKILL there leaves."""

    def __init__(self, path: Path, allocator: FakeAllocator, host: FakeHost, folder: Path) -> None:
        self._path, self._allocator, self._host, self._folder = path, allocator, host, folder
        self.points: dict[str, tuple[Path, FakeAllocator, FakeHost]] = {}

    def __call__(self, step: str) -> None:
        name = f"{len(self.points)} {step}"
        target = self._folder / name.replace(" ", "-")
        shutil.copytree(self._path.parent, target)
        self.points[name] = (target / self._path.name, copied(self._allocator), self._host.copied())

    def asked(self, request: Any) -> None:
        self(f"{request.NAME} asked")


async def checked_after(point: tuple[Path, FakeAllocator, FakeHost], name: str) -> None:
    """Start a worker on what a kill left: nothing is half done, and the pod can be attached and detached."""
    path, allocator, host = point
    async with node(path, allocator, host) as worker:
        await all_released(worker)
        left = await rows(worker)
        assert all(row.state is State.ATTACHED for row in left), name
        assert {row.host_link for row in left} == set(host.endpoints), name
        assert {row.attachment_id for row in left} == set(allocator.attachments), name
        for container in ("c1", "old"):
            await worker.handlers.delete(call("DEL", container=container))
        assert host.endpoints == allocator.attachments == {}, name
        await worker.handlers.add(call(container="c2"))
        assert allocator.holders() == {"shop/web-0": "c2"}, name


async def test_killed_anywhere_in_an_add_nothing_is_half_done(
    path: Path, allocator: FakeAllocator, host: FakeHost, tmp_path: Path
) -> None:
    kills = Kills(path, allocator, host, tmp_path)
    async with node(path, allocator, host) as worker:
        host.hook = kills
        allocator.hooks["address.allocate"] = kills.asked
        await worker.handlers.add(call())
        kills("done")
    assert [name.partition(" ")[2] for name in kills.points] == [
        "open_pod",
        "address.allocate asked",
        "attach",
        "attached",
        "done",
    ]
    for name, point in kills.points.items():
        await checked_after(point, name)


async def test_killed_anywhere_in_a_takeover_nothing_is_half_done(
    path: Path, allocator: FakeAllocator, host: FakeHost, tmp_path: Path
) -> None:
    kills = Kills(path, allocator, host, tmp_path)
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        host.hook = kills
        allocator.hooks["address.allocate"] = kills.asked
        await worker.handlers.add(call())
        kills("done")
    assert any(name.endswith("was cut") for name in kills.points)
    for name, point in kills.points.items():
        await checked_after(point, name)


async def test_killed_anywhere_in_a_del_nothing_is_half_done(
    path: Path, allocator: FakeAllocator, host: FakeHost, tmp_path: Path
) -> None:
    kills = Kills(path, allocator, host, tmp_path)
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
        host.hook = kills
        allocator.hooks["address.release"] = kills.asked
        await worker.handlers.delete(call("DEL"))
        kills("done")
    steps = {name.partition(" ")[2] for name in kills.points}
    assert steps == {"cut", "was cut", "address.release asked", "detach", "detached", "done"}
    for name, point in kills.points.items():
        await checked_after(point, name)


async def test_what_cannot_be_undone_at_start_keeps_its_address_and_does_not_stop_the_worker(
    path: Path, allocator: FakeAllocator, host: FakeHost, tmp_path: Path
) -> None:
    kills = Kills(path, allocator, host, tmp_path)
    async with node(path, allocator, host) as worker:
        host.hook = kills
        await worker.handlers.add(call())
    left, known, machine = next(point for name, point in kills.points.items() if name.endswith("attached"))
    machine.fail["cut"] = refused()
    async with node(left, known, machine) as worker:
        assert [row.state for row in await rows(worker)] == [State.WIRING]
        assert len(known.attachments) == len(machine.endpoints) == 1
        machine.fail = {}
        await worker.handlers.delete(call("DEL"))
    assert known.attachments == machine.endpoints == {}


def test_database_time_goes_on_with_the_monotonic_clock_and_is_never_ahead() -> None:
    from tests.node_fakes import DATABASE_TIME

    now = 100.0
    clock = DatabaseClock(lambda: now)
    assert clock.after(5) is None
    clock.tell(DATABASE_TIME)
    now = 107.5
    later = clock.after(5)
    assert later is not None
    assert (later - DATABASE_TIME).total_seconds() == 12.5
