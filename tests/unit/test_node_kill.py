"""A worker killed at every step of ADD and DEL: the next one finds nothing half done."""

import shutil
import threading
from pathlib import Path
from typing import Any

from node_worker.attachments import State
from tests.node_allocator import FakeAllocator, copied
from tests.node_fakes import FakeHost, all_released, call, node, refused, rows, serving, until


class Kills:
    """Copies of journal, kernel and allocator as they are at each step: what a SIGKILL there leaves."""

    def __init__(self, path: Path, allocator: FakeAllocator, host: FakeHost, folder: Path) -> None:
        self._path, self._allocator, self._host, self._folder = path, allocator, host, folder
        self._one = threading.Lock()  # containers end side by side
        self.points: dict[str, tuple[Path, FakeAllocator, FakeHost]] = {}

    def __call__(self, step: str) -> None:
        with self._one:
            name = f"{len(self.points)} {step}"
            target = self._folder / name.replace(" ", "-")
            shutil.copytree(self._path.parent, target)
            self.points[name] = (target / self._path.name, copied(self._allocator), self._host.copied())

    def asked(self, request: Any) -> None:
        self(f"{request.NAME} asked")


async def checked_after(
    point: tuple[Path, FakeAllocator, FakeHost], name: str, also: tuple[str, ...] = ()
) -> None:
    """Start a worker on what a kill left: nothing is half done, and the pod can be attached and detached."""
    path, allocator, host = point
    async with node(path, allocator, host) as worker:
        await all_released(worker)
        left = await rows(worker)
        assert all(row.state is State.ATTACHED for row in left), name
        assert {row.host_link for row in left} == set(host.endpoints), name
        assert not host.prepared, name
        assert {row.attachment_id for row in left} == set(allocator.attachments), name
        for container in ("c1", "old", *also):
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
    steps = [name.partition(" ")[2] for name in kills.points]
    assert steps[0] == "open_pod"
    assert set(steps[1:4]) == {"prepare", "prepared", "address.allocate asked"}, "side by side"
    assert steps[4:] == ["attach", "attached", "done"]
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


async def test_killed_anywhere_while_a_stale_attachment_ends_nothing_is_half_done(
    path: Path, allocator: FakeAllocator, host: FakeHost, tmp_path: Path
) -> None:
    kills = Kills(path, allocator, host, tmp_path)
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        await worker.handlers.add(call(container="other", pod="web-1"))
        allocator.end((await rows(worker))[0].attachment_id)
        host.hook = allocator.hooks["node.sync"] = lambda step: kills(getattr(step, "NAME", step))
        worker.reconcile.wake()
        await until(lambda: len(host.endpoints) == 1)
        await all_released(worker)
        kills("done")
    steps = [name.partition(" ")[2] for name in kills.points]
    assert steps == ["node.sync", "cut", "was cut", "detach", "detached", "done"]
    for name, point in kills.points.items():
        await checked_after(point, name, also=("other",))


async def test_killed_anywhere_while_it_cleans_up_after_a_fence_the_next_worker_does_the_rest(
    path: Path, allocator: FakeAllocator, host: FakeHost, tmp_path: Path
) -> None:
    kills = Kills(path, allocator, host, tmp_path)
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(container="old"))
        await worker.handlers.add(call(container="other", pod="web-1"))
        allocator.fence("node-a")
        kills("fenced")
        host.hook = allocator.hooks["node.sync"] = lambda step: kills(getattr(step, "NAME", step))
        await worker.parts.pulse._beat()
        await serving(worker)
        kills("done")
    steps = [name.partition(" ")[2] for name in kills.points]
    assert steps.count("was cut") == steps.count("detached") == 2
    assert steps[-2:] == ["node.sync", "done"]
    for name, point in kills.points.items():
        known, machine = point[1:]
        async with node(*point):
            assert machine.endpoints == known.attachments == {}, name
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
