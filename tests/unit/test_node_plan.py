"""The endpoint plan: names that fit the kernel, one default route per family, the result's shape."""

from ipaddress import ip_address, ip_interface, ip_network
from uuid import UUID, uuid4

import pytest

from node_worker.plan import bridge_name, host_link_name, plan_endpoint, result
from schemas.address import Allocated, AllocatedAddress

ATTACHMENT = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


def allocated(*addresses: tuple[str, int, str | None], mtu: int = 1400) -> Allocated:
    return Allocated(
        network="prod",
        network_version=1,
        pool="default",
        policy="shared",
        attachment_id=ATTACHMENT,
        addresses=tuple(
            AllocatedAddress(
                address=ip_address(address), prefix=prefix, gateway=ip_address(gateway) if gateway else None
            )
            for address, prefix, gateway in addresses
        ),
        mac="0a:58:0a:14:00:05",
        mtu=mtu,
    )


@pytest.mark.parametrize(
    ("network", "bridge"),
    [("prod", "mo-prod"), ("twelve-chars", "mo-twelve-chars"), ("a", "mo-a")],
)
def test_a_short_network_name_is_in_its_bridges_name(network: str, bridge: str) -> None:
    assert bridge_name(network) == bridge


def test_long_network_names_get_bridges_of_their_own_that_linux_accepts() -> None:
    names = {bridge_name(f"production-network-{number}") for number in range(500)}
    assert len(names) == 500
    assert {len(name) for name in names} == {15}


def test_host_links_are_told_apart_and_fit_linux() -> None:
    names = {host_link_name(uuid4()) for _ in range(500)}
    assert len(names) == 500
    assert all(len(name) == 15 and name.startswith("mo") for name in names)


def test_a_host_link_is_known_from_its_attachment_alone() -> None:
    plan = plan_endpoint(allocated(("10.20.0.5", 24, None)), "eth0")
    assert plan.host_link == host_link_name(ATTACHMENT)
    assert not int(plan.host_mac[:2], 16) & 1, "a unicast MAC"
    assert int(plan.host_mac[:2], 16) & 2, "a locally administered MAC"
    assert plan.host_mac != plan.mac


def test_each_family_gets_one_default_route_through_its_gateway() -> None:
    answer = allocated(
        ("10.20.0.5", 24, "10.20.0.1"), ("10.21.0.5", 24, "10.21.0.1"), ("fd00:20::5", 64, "fd00:20::1")
    )
    plan = plan_endpoint(answer, "eth0")
    assert [(route.destination, route.via) for route in plan.routes] == [
        (ip_network("0.0.0.0/0"), ip_address("10.20.0.1")),
        (ip_network("::/0"), ip_address("fd00:20::1")),
    ]
    assert plan.addresses == tuple(
        ip_interface(text) for text in ("10.20.0.5/24", "10.21.0.5/24", "fd00:20::5/64")
    )
    assert plan.mtu == 1400


def test_without_a_gateway_there_is_no_route() -> None:
    assert plan_endpoint(allocated(("10.20.0.5", 24, None)), "eth0").routes == ()


def test_the_result_puts_every_address_on_the_pods_interface() -> None:
    answer = allocated(("10.20.0.5", 24, "10.20.0.1"), ("fd00:20::5", 64, None))
    told = result(plan_endpoint(answer, "net1"), answer, "/run/netns/c1")
    host, pod = told.interfaces
    assert (host.sandbox, pod.sandbox) == (None, "/run/netns/c1")
    assert (pod.name, pod.mac, pod.mtu) == ("net1", "0a:58:0a:14:00:05", 1400)
    assert [told.interfaces[ip.interface or 0] for ip in told.ips] == [pod, pod]
    assert [ip.gateway for ip in told.ips] == [ip_address("10.20.0.1"), None]
    assert [str(route.dst) for route in told.routes] == ["0.0.0.0/0"]
