"""Whole node workers on simulated hosts, called through their CNI sockets; only the allocator is a fake."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node_worker import attachments
from node_worker.inbox import Inbox
from node_worker.journal import Journal
from node_worker.worker import WorkerConfig, run
from schemas.errors import Code, ServiceError
from schemas.node import Nudge
from tests.metrics_fakes import unwatched
from tests.node_allocator import present
from tests.node_cluster import Cluster
from tests.node_fakes import until

pytestmark = pytest.mark.netns


async def test_a_pod_that_moves_keeps_its_address_and_mac_and_its_peer_reaches_it(cluster: Cluster) -> None:
    peer, old, new = await cluster.pod("peer"), await cluster.pod("old"), await cluster.pod("new")
    async with cluster.worker("a", "b"):
        status, before = await cluster.call("b", "ADD", old)
        assert status == 0, before
        status, answer = await cluster.call("a", "ADD", peer, owner="web-1")
        assert status == 0, answer
        address = before["ips"][0]["address"].partition("/")[0]
        assert await cluster.pings(peer, address)
        assert (await cluster.call("b", "DEL", old))[0] == 0
        status, after = await cluster.call("a", "ADD", new)
        assert status == 0, after
        assert after["ips"] == before["ips"]
        assert after["interfaces"][1]["mac"] == before["interfaces"][1]["mac"]
        assert await cluster.pings(peer, address)
        assert (await cluster.call("b", "DEL", old))[0] == 0, "its late DEL"
        assert await cluster.pings(peer, address)
    assert cluster.allocator.holders() == {"shop/web-0": "new", "shop/web-1": "peer"}


async def test_a_pod_outlives_its_worker_and_is_deleted_by_the_next_one_after_its_netns(
    cluster: Cluster,
) -> None:
    one, other = await cluster.pod("one"), await cluster.pod("other")
    async with cluster.worker("a"):
        for pod, owner in ((one, "web-0"), (other, "web-1")):
            assert (await cluster.call("a", "ADD", pod, owner))[0] == 0
    assert await cluster.pings(one, "10.20.0.11")
    async with cluster.worker("a"):
        await until(lambda: len(cluster.allocator.reports) > 0)
        assert await cluster.pings(one, "10.20.0.11")
        cluster.end_pod(one)
        for _ in range(2):
            assert (await cluster.call("a", "DEL", one))[0] == 0
    assert cluster.allocator.holders() == {"shop/web-1": "other"}
    assert len(await cluster.endpoints("a")) == 1


async def test_a_nudge_brings_a_new_network_at_once(cluster: Cluster) -> None:
    async with cluster.worker("a", "b"):
        await until(lambda: len(cluster.allocator.reports) == 2)
        cluster.allocator.networks["late"] = present("late")
        for inbox in cluster.inboxes.values():
            inbox.told(Nudge(network="late", version=1).model_dump_json().encode())
        await until(lambda: len(cluster.allocator.reports) == 4, 2)
    told = {(report.node, report.network, report.result) for report in cluster.allocator.reports}
    assert told == {(node, net, "ready") for node in ("node-a", "node-b") for net in ("prod", "late")}


async def test_what_a_killed_worker_left_is_gone_before_the_socket_is_there(cluster: Cluster) -> None:
    pod = await cluster.pod("pod")
    async with cluster.worker("a"):
        assert (await cluster.call("a", "ADD", pod))[0] == 0
    with Journal(cluster.config("a").journal) as journal:
        await journal.run(lambda db: db.execute("UPDATE attachments SET state = 'wiring'"))
    (left,) = await cluster.endpoints("a")
    async with cluster.worker("a"):
        assert await cluster.endpoints("a") == set()
        await until(lambda: cluster.allocator.attachments == {})
        assert (await cluster.call("a", "ADD", pod))[0] == 0
    assert left not in await cluster.endpoints("a")


async def test_a_stale_endpoint_is_gone_from_the_kernel_before_add_is_served_again(cluster: Cluster) -> None:
    stale, good, new = await cluster.pod("stale"), await cluster.pod("good"), await cluster.pod("new")
    async with cluster.worker("a"):
        assert (await cluster.call("a", "ADD", stale))[0] == 0
        (lost,) = await cluster.endpoints("a")
        assert (await cluster.call("a", "ADD", good, owner="web-1"))[0] == 0
    cluster.allocator.end(next(iter(cluster.allocator.attachments)))
    compared, seen = asyncio.Event(), []

    async def hold(request: Any) -> None:
        if request.attachments is not None:
            await compared.wait()

    async def look(request: Any) -> None:
        seen.append(await cluster.endpoints("a"))

    cluster.allocator.hooks = {"node.sync": hold, "address.allocate": look}
    async with cluster.worker("a"):
        adding = asyncio.create_task(cluster.call("a", "ADD", new))
        await until(lambda: len(cluster.allocator.reports) > 0)
        assert lost in await cluster.endpoints("a")
        assert (await cluster.call("a", "DEL", good))[0] == 0, "DEL does not wait"
        assert not adding.done()
        compared.set()
        status, answer = await adding
        assert status == 0, answer
    assert [lost in links for links in seen] == [False]
    assert cluster.allocator.holders() == {"shop/web-0": "new"}


async def test_a_fenced_node_ends_its_endpoints_and_goes_on(cluster: Cluster) -> None:
    pods = [await cluster.pod(f"pod-{number}") for number in range(5)]
    new = await cluster.pod("new")
    async with cluster.worker("a"):
        for pod in pods:
            assert (await cluster.call("a", "ADD", pod, owner=pod))[0] == 0
        cluster.allocator.fence("node-a")
        cluster.inboxes["a"].told(None)  # the broker is back: the next heartbeat is not far
        await until(lambda: cluster.allocator.sessions)
        assert await cluster.endpoints("a") == set()
        status, answer = await cluster.call("a", "ADD", new, owner="pod-0")
        assert status == 0, answer
        assert answer["ips"][0]["address"] == "10.20.0.10/24"
        assert len(await cluster.endpoints("a")) == 1


async def test_a_nudge_about_attachments_ends_what_the_allocator_ended(cluster: Cluster) -> None:
    pod = await cluster.pod("pod")
    async with cluster.worker("a"):
        assert (await cluster.call("a", "ADD", pod))[0] == 0
        cluster.allocator.end(next(iter(cluster.allocator.attachments)))
        cluster.inboxes["a"].told(Nudge().model_dump_json().encode())

        async def ended() -> bool:
            return await cluster.endpoints("a") == set()

        await until(ended)


async def test_an_interface_that_exists_and_a_netns_that_does_not_have_codes_of_their_own(
    cluster: Cluster,
) -> None:
    pod = await cluster.pod("pod")
    async with cluster.worker("a"):
        assert (await cluster.call("a", "ADD", pod))[0] == 0
        status, answer = await cluster.call("a", "ADD", pod)
        assert (status, answer["details"]) == (1, Code.INTERFACE_EXISTS)
        status, answer = await cluster.call("a", "ADD", "nosuch")
        assert (status, answer["details"]) == (1, Code.NETNS_UNUSABLE)
        assert (await cluster.call("a", "DEL", "nosuch"))[0] == 0


def open_files() -> list[str]:
    return [path.name for path in Path("/proc/self/fd").iterdir()]


async def test_fifty_pods_at_once_all_get_their_addresses_and_go_again(cluster: Cluster) -> None:
    pods = [await cluster.pod(f"pod-{number}") for number in range(50)]
    before = len(open_files())
    async with cluster.worker("a"):
        added = await asyncio.gather(*(cluster.call("a", "ADD", pod, owner=pod) for pod in pods))
        assert {status for status, _ in added} == {0}
        assert len({answer["ips"][0]["address"] for _, answer in added}) == 50
        assert len(await cluster.endpoints("a")) == 50
        deleted = await asyncio.gather(*(cluster.call("a", "DEL", pod) for pod in pods))
        assert {status for status, _ in deleted} == {0}
        assert await cluster.endpoints("a") == set()
    assert cluster.allocator.attachments == {}
    assert len(open_files()) <= before, "no file descriptor leaks"


async def test_two_workers_on_one_journal_are_refused(cluster: Cluster) -> None:
    async with cluster.worker("a"):
        with pytest.raises(ServiceError, match="stop the other node worker"):
            await run(cluster.config("a"), cluster.allocator, Inbox(), unwatched())


async def test_a_worker_whose_namespace_is_missing_says_so(cluster: Cluster) -> None:
    config = WorkerConfig(
        "node-c", cluster.folder / "c", cluster.folder / "c.sock", Path("/run/netns/nosuch")
    )
    with pytest.raises(ServiceError) as caught:
        await run(config, cluster.allocator, Inbox(), unwatched())
    assert caught.value.code == Code.NETNS_UNUSABLE


async def test_the_journal_says_what_is_attached(cluster: Cluster) -> None:
    pod = await cluster.pod("pod")
    async with cluster.worker("a"):
        assert (await cluster.call("a", "ADD", pod))[0] == 0
    with Journal(cluster.config("a").journal) as journal:
        (row,) = await journal.run(attachments.of_network, "prod")
    facts = await asyncio.to_thread(Path(cluster.path(pod)).stat)
    assert (row.netns_device, row.netns_inode) == (facts.st_dev, facts.st_ino)
    assert {row.host_link} == await cluster.endpoints("a")
