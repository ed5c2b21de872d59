"""Networks of each kind under whole node workers: made, mended, and what others on a segment do to them."""

from ipaddress import IPv4Address

import pytest

from schemas.node import NodeSync
from tests.node_allocator import present
from tests.node_cluster import Cluster
from tests.node_fakes import until

pytestmark = pytest.mark.netns


async def test_a_bridge_deleted_by_hand_is_back_with_its_pods_and_a_foreign_one_untouched(
    cluster: Cluster,
) -> None:
    one, other = await cluster.pod("one"), await cluster.pod("other")
    async with cluster.worker("a", "b"):
        for host, pod, owner in (("a", one, "web-0"), ("b", other, "web-1")):
            assert (await cluster.call(host, "ADD", pod, owner))[0] == 0
        await cluster.ip("a", "link", "add", "foreign", "type", "bridge")
        await cluster.ip("a", "link", "add", "port", "master", "foreign", "type", "veth", "peer", "far")
        before = await cluster.ip("a", "-o", "link", "show", "master", "foreign")
        assert "port" in before
        await cluster.ip("a", "link", "delete", "mo-prod")

        async def reached() -> bool:
            return await cluster.pings(one, "10.20.0.11") and await cluster.pings(other, "10.20.0.10")

        await until(reached, 10)
        assert await cluster.ip("a", "-o", "link", "show", "master", "foreign") == before


async def test_pods_reach_one_another_through_tunnels(cluster: Cluster) -> None:
    cluster.allocator.networks = {"prod": present(driver={"type": "vxlan", "vni": 42}, mtu=1450)}
    ends = {"a": "192.168.77.1", "b": "192.168.77.2"}
    for host, end in ends.items():
        await cluster.ip(host, "address", "add", f"{end}/24", "dev", "eth1")
        await cluster.ip(host, "route", "add", "default", "dev", "eth1")
    cluster.allocator.peers = tuple(map(IPv4Address, ends.values()))
    one, other = await cluster.pod("one"), await cluster.pod("other")
    async with cluster.worker("a", "b"):
        for host, pod, owner in (("a", one, "web-0"), ("b", other, "web-1")):
            status, answer = await cluster.call(host, "ADD", pod, owner)
            assert status == 0, answer
        assert await cluster.pings(one, "10.20.0.11")
        assert await cluster.pings(other, "10.20.0.10")
        said = {str(request.address) for request in cluster.allocator.of(NodeSync) if request.address}
        assert said == set(ends.values()), "each node says where its tunnels end"
        await cluster.ip("a", "link", "delete", "mt-prod")

        async def reached() -> bool:
            return await cluster.pings(one, "10.20.0.11")

        await until(reached, 10)


async def test_a_pod_beside_the_nodes_interface_is_attached_checked_and_deleted(cluster: Cluster) -> None:
    driver = {"type": "macvlan", "parent": "eth1"}
    cluster.allocator.networks = {"prod": present(driver=driver)}
    one, other = await cluster.pod("one"), await cluster.pod("other")
    async with cluster.worker("a", "b"):
        status, answer = await cluster.call("a", "ADD", one, "web-0")
        assert status == 0, answer
        assert [item["name"] for item in answer["interfaces"]] == ["eth0"]
        assert answer["ips"][0]["interface"] == 0
        assert (await cluster.call("b", "ADD", other, "web-1"))[0] == 0
        assert await cluster.pings(one, "10.20.0.11")
        for _ in range(2):
            assert (await cluster.call("a", "DEL", one, "web-0"))[0] == 0
        assert "eth0" not in await cluster.ip(one, "-o", "link")
        await until(lambda: list(cluster.allocator.holders()) == ["shop/web-1"])
        cluster.end_pod(other)
        assert (await cluster.call("b", "DEL", other, "web-1"))[0] == 0
        await until(lambda: cluster.allocator.holders() == {})


async def foreign_host(cluster: Cluster, address: str) -> None:
    """Give the underlay's switch that address: a host that nobody here made."""
    await cluster.ip("underlay", "address", "add", f"{address}/24", "dev", "switch")


async def test_an_address_that_a_foreign_host_uses_is_withheld_and_a_shared_pool_gives_another(
    cluster: Cluster,
) -> None:
    cluster.allocator.policy = "shared"
    await foreign_host(cluster, "10.20.0.10")
    async with cluster.worker("a"):
        status, answer = await cluster.call("a", "ADD", await cluster.pod("pod"))
        assert status == 0, answer
        assert answer["ips"][0]["address"] == "10.20.0.11/24"
        assert list(cluster.allocator.withheld) == ["10.20.0.10"]
        assert "answered for 10.20.0.10 on node node-a" in cluster.allocator.withheld["10.20.0.10"]
        assert len(await cluster.endpoints("a")) == 1


async def test_a_pinned_owner_waits_while_somebody_else_uses_its_address(cluster: Cluster) -> None:
    await foreign_host(cluster, "10.20.0.10")
    async with cluster.worker("a"):
        pod = await cluster.pod("pod")
        status, answer = await cluster.call("a", "ADD", pod)
        assert (status, answer["details"]) == (1, "address_quarantined")
        assert "moorage address release prod 10.20.0.10" in answer["msg"]
        assert await cluster.endpoints("a") == set()
        assert cluster.allocator.attachments == {}
        await cluster.ip("underlay", "address", "flush", "dev", "switch")
        cluster.allocator.withheld.clear()
        assert (await cluster.call("a", "ADD", pod))[0] == 0


async def test_an_endpoint_that_should_be_gone_is_seen_by_its_own_mac(cluster: Cluster) -> None:
    """A node was fenced although it is still powered: its worker is dead, its pod is not."""
    old, new = await cluster.pod("old"), await cluster.pod("new")
    async with cluster.worker("b"):
        assert (await cluster.call("b", "ADD", old))[0] == 0
    for attachment_id in list(cluster.allocator.attachments):
        cluster.allocator.end(attachment_id)
    async with cluster.worker("a"):
        status, answer = await cluster.call("a", "ADD", new)
        assert (status, answer["details"]) == (1, "address_quarantined")
        assert "its own MAC" in answer["msg"]


async def test_a_network_that_is_not_to_be_probed_is_not(cluster: Cluster) -> None:
    described = present(uplink="eth1")
    assert described.definition is not None
    silent = described.definition.model_copy(update={"probe": False})
    cluster.allocator.networks = {"prod": described.model_copy(update={"definition": silent})}
    await foreign_host(cluster, "10.20.0.10")
    async with cluster.worker("a"):
        status, answer = await cluster.call("a", "ADD", await cluster.pod("pod"))
        assert (status, cluster.allocator.withheld) == (0, {}), answer
