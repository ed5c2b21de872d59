"""ADD and the networks it meets: unknown, not made yet, made anew, vanished."""

from pathlib import Path

import pytest

from schemas.address import AddressAllocate
from schemas.errors import Code, ServiceError
from tests.node_allocator import FakeAllocator, present
from tests.node_fakes import FakeHost, call, node, refused, until


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
