"""Attachments with an address of each family on the real database: they come and go as one."""

from typing import Any

import pytest
from sqlalchemy import Engine

from schemas.address import (
    AddressQuarantine,
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    Allocated,
)
from schemas.message import Administrative
from tests.integration.allocating import Asked

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with a dual-stack network and a pinned pool for shop/web-*."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/28", "fd00:1::/124")
    made.pool("web", "10.1.0.2-10.1.0.5", "fd00:1::2-fd00:1::5", owners=["shop/web-*"])
    return made


def change(asked: Asked, kind: type[Administrative], **fields: Any) -> Any:
    """The answer of an administrative request in network prod."""
    return asked.reply(kind.model_validate({"request_id": asked.request_id(), "network": "prod"} | fields))


def given(allocated: Allocated) -> list[str]:
    return [str(address.address) for address in allocated.addresses]


def states(asked: Asked) -> dict[str, str]:
    return {str(row.address): row.state for row in asked.addresses()}


def force(asked: Asked, address: str) -> Any:
    return change(asked, AddressReleaseByOperator, address=address, reason="gone", force=True)


def rebind(asked: Asked, *addresses: str) -> Any:
    return change(asked, AddressRebind, owner="shop/web-0", addresses=addresses)


def test_a_forced_release_withholds_all_that_the_attachment_has(asked: Asked):
    request = asked.ask("shop/web-0")
    asked.reply(request)
    force(asked, "10.1.0.2")
    assert states(asked) == {"10.1.0.2": "quarantined", "fd00:1::2": "quarantined"}
    assert asked.refusal(request).code == "attachment_released"
    events = [(str(row.address), row.event) for row in asked.history(attachment_id=request.attachment_id)]
    assert events[2:] == [("10.1.0.2", "address.quarantined"), ("fd00:1::2", "address.quarantined")]
