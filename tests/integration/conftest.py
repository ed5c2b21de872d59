"""Fixtures that tests of the broker and of whole node workers share."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.services.local import LocalServices
from node_worker.netlink import simulated
from tests.integration.brokering import Broker, empty, provisioned
from tests.node_allocator import FakeAllocator, present
from tests.node_cluster import Cluster


@pytest.fixture(scope="module")
def _provisioned(services: LocalServices) -> Iterator[Broker]:
    with provisioned(services.management_url, services.amqp_url) as made:
        yield made


@pytest.fixture
def broker(_provisioned: Broker) -> Broker:
    """A virtual host with empty queues."""
    empty(_provisioned)
    return _provisioned


@pytest.fixture
def own_broker(services: LocalServices) -> Iterator[Broker]:
    """A virtual host that the test may spoil."""
    with provisioned(services.management_url, services.amqp_url) as made:
        yield made


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two hosts with network `prod` on their underlay; all threads and namespaces are gone afterwards."""
    threads = set(threading.enumerate())
    made = Cluster(tmp_path, FakeAllocator(present(uplink="eth1")))
    try:
        yield made
    finally:
        for name in made.made:
            simulated.remove_netns(name)
    assert {thread for thread in threading.enumerate() if thread not in threads} == set()
    assert not set(made.made) & set(simulated.netns_names())
