"""Fixtures that the broker tests share."""

from collections.abc import Iterator

import pytest

from compose.services.local import LocalServices
from tests.integration.brokering import Broker, empty, provisioned


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
