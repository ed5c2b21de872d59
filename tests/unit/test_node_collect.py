"""GC against a fake allocator and a fake host: what is not listed goes, and no live pod by mistake."""

from pathlib import Path
from typing import Any

import pytest

from node_worker import collecting
from schemas.errors import ServiceError
from tests.node_allocator import FakeAllocator
from tests.node_fakes import FakeHost, all_released, call, node, refused, rows, until

VALID = "cni.dev/valid-attachments"


@pytest.fixture(autouse=True)
def nothing_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "NEW_S", -1.0)


def gc(conf_name: str = "pods", **keys: Any) -> Any:
    return call("GC", "", conf_name=conf_name, **keys)


def listed(*containers: str) -> dict[str, Any]:
    return {VALID: [{"containerID": container, "ifname": "eth0"} for container in containers]}


async def added(worker: Any, *containers: str) -> None:
    for number, container in enumerate(containers):
        await worker.handlers.add(call(container=container, pod=f"web-{number}"))


async def left(worker: Any) -> list[str]:
    return sorted(row.container_id for row in await rows(worker))


async def test_what_is_not_listed_goes_and_its_address_is_freed(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, "c1", "c2", "c3")
        await worker.handlers.collect(gc(**listed("c2")))
        assert await left(worker) == ["c2"]
        await all_released(worker)
    assert [pod for pod, _ in host.endpoints.values()] == ["/run/netns/c2"]
    assert len(allocator.attachments) == 1


async def test_an_interface_is_listed_by_its_name_too(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, "c1")
        await worker.handlers.collect(gc(**{VALID: [{"containerID": "c1", "ifname": "net1"}]}))
        assert await left(worker) == []


async def test_without_the_key_nothing_happens(path: Path, allocator: FakeAllocator, host: FakeHost) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, "c1")
        host.endpoints.clear()
        await worker.handlers.collect(gc())
        assert await left(worker) == ["c1"]


@pytest.mark.parametrize("empty", [None, []], ids=["null", "empty"])
async def test_an_empty_list_ends_only_what_has_lost_its_namespace(
    path: Path, allocator: FakeAllocator, host: FakeHost, empty: Any
) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, "c1", "c2")
        (gone,) = [link for link, (pod, _) in host.endpoints.items() if pod == "/run/netns/c1"]
        del host.endpoints[gone]
        await worker.handlers.collect(gc(**{VALID: empty}))
        assert await left(worker) == ["c2"]


async def test_another_configurations_attachments_are_not_this_ones_to_end(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, "c1")
        await worker.handlers.collect(gc("other", **listed("c9")))
        assert await left(worker) == ["c1"]


async def test_the_older_name_of_the_list_is_read_where_it_stands_alone(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, "c1", "c2")
        await worker.handlers.collect(gc(**{"cni.dev/attachments": listed("c2")[VALID]}))
        assert await left(worker) == ["c2"]


async def test_a_list_made_before_an_add_ended_costs_that_pod_nothing(
    path: Path, allocator: FakeAllocator, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "NEW_S", 120.0)
    async with node(path, allocator, host) as worker:
        await added(worker, "c1")
        await worker.handlers.collect(gc(**listed("c9")))
        assert await left(worker) == ["c1"], "it is new"
    async with node(path, allocator, host) as worker:
        await worker.handlers.collect(gc(**listed("c9")))
        assert await left(worker) == [], "it was there before this worker"


async def test_an_add_under_way_is_not_ended(path: Path, allocator: FakeAllocator, host: FakeHost) -> None:
    async with node(path, allocator, host) as worker:
        ended: list[list[str]] = []

        async def collect(_: Any) -> None:
            await worker.handlers.collect(gc(**listed("c9")))
            ended.append(await left(worker))

        allocator.hooks["address.allocate"] = collect
        await added(worker, "c1")
        assert ended == [["c1"]]
        assert await left(worker) == ["c1"]


async def test_one_that_cannot_be_ended_keeps_no_other_from_it(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await added(worker, "c1", "c2")
        first = next(iter(host.endpoints))

        def fail_once(step: str) -> None:
            if step == "cut":
                host.hook = lambda _: None
                raise refused()

        host.hook = fail_once
        with pytest.raises(ServiceError):
            await worker.handlers.collect(gc(**listed("c9")))
        assert len(await rows(worker)) == 1, "the other one went"
        await worker.handlers.collect(gc(**listed("c9")))
        assert await rows(worker) == []
        await until(lambda: allocator.attachments == {})
    assert first not in host.endpoints
