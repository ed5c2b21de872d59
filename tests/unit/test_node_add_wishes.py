"""ADD and DEL of pods with wishes: what the allocator is asked for."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from cni.wishes import ANNOTATIONS
from node_worker.plan import bridge_name
from schemas.address import AddressAllocate, AddressRelease
from schemas.errors import ServiceError
from tests.node_allocator import FakeAllocator, present
from tests.node_fakes import FakeHost, all_released, call, node, refused, rows

TEST = {ANNOTATIONS: {"moorage.io/network": "test"}}


@pytest.fixture
def allocator() -> FakeAllocator:
    return FakeAllocator(present(), present("test"))


async def test_a_pods_wishes_reach_the_allocator(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    wishes = {
        "moorage.io/pool": "web",
        "moorage.io/ip": "10.20.0.12, fd00:20::12, 10.20.0.13",
        "moorage.io/mac": "02:00:00:00:00:05",
    }
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(runtimeConfig={ANNOTATIONS: wishes}))
    (asked,) = allocator.of(AddressAllocate)
    assert (asked.network, asked.pool, asked.mac) == ("prod", "web", "02:00:00:00:00:05")
    assert asked.addresses == tuple(map(ip_address, ("10.20.0.12", "fd00:20::12", "10.20.0.13")))


async def test_a_pod_without_wishes_asks_for_nothing_in_particular(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call())
    (asked,) = allocator.of(AddressAllocate)
    assert (asked.network, asked.pool, asked.addresses, asked.mac) == ("prod", None, (), None)


async def test_a_pod_is_attached_to_the_network_it_wishes_for(path: Path, host: FakeHost) -> None:
    allocator = FakeAllocator(present("test"))  # the configuration's own network need not be there
    async with node(path, allocator, host) as worker:
        await worker.handlers.add(call(runtimeConfig=TEST))
        assert await rows(worker) == [], "none of prod"
        (row,) = await rows(worker, "test")
        await worker.handlers.delete(call("DEL", runtimeConfig=TEST))
        await all_released(worker)
        assert await rows(worker, "test") == []
    (asked,) = allocator.of(AddressAllocate)
    assert (asked.network, row.bridge) == ("test", bridge_name("test"))
    assert [release.network for release in allocator.of(AddressRelease)] == ["test"]


async def test_an_unfinished_add_in_the_wished_network_goes_on_with_its_attachment_id(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        host.fail = {"attach": refused(), "cut": refused()}  # nor can it be undone
        with pytest.raises(ServiceError):
            await worker.handlers.add(call(runtimeConfig=TEST))
        host.fail = {}
        await worker.handlers.add(call(runtimeConfig=TEST))
    first, second = allocator.of(AddressAllocate)
    assert first.attachment_id == second.attachment_id


async def test_a_del_that_the_journal_knows_nothing_of_releases_in_the_wished_network(
    path: Path, allocator: FakeAllocator, host: FakeHost
) -> None:
    async with node(path, allocator, host) as worker:
        await worker.handlers.delete(call("DEL", runtimeConfig=TEST))
        await all_released(worker)
    (release,) = allocator.of(AddressRelease)
    assert (release.network, release.attachment_id) == ("test", None)
