"""Pinned addresses of pools that do not keep them for ever."""

import pytest
from sqlalchemy import Engine

from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Two pinned pools for shop/web-* and shop/db-*, of which one keeps an address for an hour."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.12", owners=["shop/web-*"], retain_s=3600)
    made.pool("db", "10.1.0.20-10.1.0.22", owners=["shop/db-*"])
    return made


def states(asked: Asked) -> dict[str, str]:
    return {str(row.address): row.state for row in asked.addresses()}


def test_an_address_whose_owner_stays_away_longer_than_it_is_kept_becomes_free(asked: Asked):
    for owner in ("shop/web-0", "shop/web-1", "shop/db-0"):
        asked.release(asked.attach(owner).attachment_id)
    attached = asked.attach("shop/web-2")
    asked.timers.tick()
    assert set(states(asked).values()) == {"waiting", "attached"}
    asked.pass_time(3601)
    asked.timers.tick()
    assert states(asked) == {
        "10.1.0.10": "free",
        "10.1.0.11": "free",
        only(attached): "attached",
        "10.1.0.20": "waiting",
    }
    (row,) = asked.history(address="10.1.0.10", owner="shop/web-0")[-1:]
    assert (row.event, row.user_id, row.details) == ("address.freed", "allocator", {"retain": True})
    asked.timers.tick()
    assert len(asked.history(address="10.1.0.10")) == 3


def test_an_owner_that_was_back_in_time_keeps_its_address(asked: Asked):
    asked.release(asked.attach("shop/web-0").attachment_id)
    asked.pass_time(3601)
    back = asked.attach("shop/web-0", "n2")
    asked.timers.tick()
    assert states(asked) == {only(back): "attached"}


def test_an_owner_that_comes_back_too_late_gets_an_address_like_everybody(asked: Asked):
    asked.release(asked.attach("shop/web-0").attachment_id)
    asked.pass_time(3601)
    asked.timers.tick()
    assert only(asked.attach("shop/web-9")) == "10.1.0.11"
    assert only(asked.attach("shop/web-0")) == "10.1.0.10"
