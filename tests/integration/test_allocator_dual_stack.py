"""Attachments with an address of each family on the real database: they come and go as one."""

from typing import Any
from uuid import UUID

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
from schemas.node import NodeSync
from tests.integration.allocating import Asked

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with a dual-stack network and a pinned pool for shop/web-*."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/27", "fd00:1::/123")
    made.pool("web", "10.1.0.2-10.1.0.25", "fd00:1::2-fd00:1::19", owners=["shop/web-*"])
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


@pytest.mark.parametrize("restarts", [True, False])
def test_an_owner_whose_ipv6_address_was_moved_keeps_its_mac(asked: Asked, restarts: bool):
    first = asked.attach("shop/web-0")
    view = rebind(asked, "fd00:1::4")
    assert {str(row.address): row.mac for row in view.addresses} == {"10.1.0.2": first.mac, "fd00:1::4": None}
    if not restarts:
        asked.release(first.attachment_id)
    second = asked.attach("shop/web-0")
    assert (given(second), second.mac) == (["10.1.0.2", "fd00:1::4"], first.mac)
    asked.release(first.attachment_id)
    assert states(asked) == {"10.1.0.2": "attached", "fd00:1::2": "free", "fd00:1::4": "attached"}


def test_a_mac_that_is_still_in_use_in_one_family_is_given_to_nobody_in_the_other(asked: Asked):
    before = [asked.attach(f"shop/web-{i}") for i in range(20)]
    for old in reversed(before):  # so that the first one's address was free the shortest
        asked.release(old.attachment_id)
        change(asked, AddressReleaseByOperator, address=given(old)[0], reason="moved")
    new = asked.attach("shop/web-99", addresses=["10.1.0.2"])
    assert new.mac != before[0].mac
    assert asked.attach("shop/web-0").mac == before[0].mac


def test_an_owner_that_is_moved_back_gets_the_mac_that_its_other_address_kept(asked: Asked):
    first = asked.attach("shop/web-0")
    rebind(asked, "10.1.0.4")
    asked.release(first.attachment_id)
    rebind(asked, "10.1.0.2")
    second = asked.attach("shop/web-0")
    assert (given(second), second.mac) == (["10.1.0.2", "fd00:1::2"], first.mac)


def test_a_reserve_leaves_the_mac_to_the_pod_that_still_runs_with_it(asked: Asked):
    first = asked.attach("shop/web-0")
    rebind(asked, "fd00:1::4")
    change(asked, AddressReleaseByOperator, address="fd00:1::4", reason="not this one")
    change(asked, AddressReserve, owner="shop/web-0")
    second = asked.attach("shop/web-0")
    assert (given(second)[0], second.mac) == (given(first)[0], first.mac)


def test_an_address_whose_conflict_was_seen_keeps_no_mac_from_its_owner(asked: Asked):
    first = asked.attach("bank/api-0")
    body = {"network": "prod", "node": "n1", "attachment_id": first.attachment_id, "reason": "seen elsewhere"}
    asked.reply(AddressQuarantine.model_validate(body | {"address": given(first)[1]}))
    second = asked.attach("bank/api-0")
    assert (given(second)[0], second.mac) == (given(first)[0], first.mac)
