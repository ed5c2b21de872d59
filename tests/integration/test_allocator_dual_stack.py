"""Attachments with an address of each family on the real database: they come and go as one."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from schemas.address import (
    AddressRebind,
    AddressReleaseByOperator,
    Allocated,
)
from schemas.message import Administrative
from schemas.node import NodeSync
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


def sync(asked: Asked, *attachment_ids: UUID) -> NodeSync:
    """What n1 asks, having these."""
    return NodeSync(node="n1", session=asked.sessions["n1"], attachments=attachment_ids)


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


def test_a_sandbox_that_was_taken_over_is_over_although_it_keeps_what_its_owner_was_moved_away_from(
    asked: Asked,
):
    request = asked.ask("shop/web-0")
    asked.reply(request)
    rebind(asked, "10.1.0.4")
    successor = asked.attach("shop/web-0")
    assert (given(successor), successor.replaces) == (["10.1.0.4", "fd00:1::2"], (request.attachment_id,))
    assert asked.refusal(request).code == "attachment_released"
    page = asked.reply(sync(asked, request.attachment_id, successor.attachment_id))
    assert page.stale == (request.attachment_id,)
    assert states(asked) == {"10.1.0.2": "attached", "10.1.0.4": "attached", "fd00:1::2": "attached"}
    assert asked.release(request.attachment_id) == ["10.1.0.2"]
    assert states(asked) == {"10.1.0.2": "free", "10.1.0.4": "attached", "fd00:1::2": "attached"}
