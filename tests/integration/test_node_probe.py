"""Somebody else uses the next address: a foreign host on the segment, or a pod that should be gone."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from node_worker.netlink.namespace import Netns
from node_worker.probe import who_uses
from tests.integration.test_node_drivers import BESIDE, BRIDGED, Network, network
from tests.node_lab import Lab, plan, run

pytestmark = pytest.mark.netns

FOUR, SIX = ip_address("10.20.0.99"), ip_address("fd00:20::99")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(stack)


@pytest.fixture(params=(BRIDGED[0], BRIDGED[1], *BESIDE))
def made(lab: Lab, request: pytest.FixtureRequest) -> Network:
    return network(lab, **request.param)


def foreign(made: Network) -> str:
    """A host on the segment that has both addresses; its MAC."""
    pod = made.lab.netns("foreign")
    planned = replace(plan(50, ipv6=True), mtu=made.made.mtu)
    with closing(made.drivers[2].prepare(planned, pod, made.made)) as prepared:
        mac = prepared.complete(planned).mac  # an ipvlan has its parent's
    run(pod, "ip", "address", "add", f"{FOUR}/24", "dev", "eth0")
    run(pod, "ip", "address", "add", f"{SIX}/64", "dev", "eth0", "nodad")
    return mac


def asked(made: Network, *addresses: Any) -> dict[Any, str]:
    """Who uses these, as a pod that is being made on another node hears it."""
    pod = made.lab.netns("asking")
    with closing(made.drivers[0].prepare(plan(60), pod, made.made)) as prepared:
        ear = prepared.ear()
        assert ear is not None
        return who_uses(addresses, *ear)


def test_who_uses_an_address_is_told_by_its_mac(made: Network) -> None:
    mac = foreign(made)
    assert asked(made, FOUR, SIX) == {FOUR: mac, SIX: mac}


def test_an_address_that_nobody_uses_is_nobodys(made: Network) -> None:
    foreign(made)
    assert asked(made, ip_address("10.20.0.98"), ip_address("fd00:20::98")) == {}


def test_asking_changes_nobodys_cache(made: Network) -> None:
    foreign(made)
    asked(made, FOUR)
    with Netns(f"/run/netns/{made.lab.name('foreign')}") as pod:
        assert run(pod, "ip", "neighbour", "show", "dev", "eth0") == ""
