"""What a survey counts on the real database, held to what the allocator itself says."""

from collections import Counter

import pytest
from sqlalchemy import Engine, text

from allocator.survey import Survey
from compose.services.local import LocalServices
from schemas.address import AddressQuarantine, AddressReserve
from schemas.network import NetworkCreate
from schemas.pool import PoolList
from tests.integration.allocating import Asked

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with network prod, IPv4 and IPv6."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24", "fd00:1::/64")
    return made


def surveyed(asked: Asked) -> Survey:
    survey = Survey(asked.database)
    survey.look()
    survey.count()
    assert survey.away is None
    return survey


def test_pools_have_as_many_addresses_as_the_allocator_says(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.19", "fd00:1::10-fd00:1::1f")
    asked.pool("kept", "10.1.0.100-10.1.0.110", policy="reserved")
    asked.attach("shop/web-0", pool="web")
    asked.attach("shop/api-0")
    counts = surveyed(asked).counts
    assert counts is not None
    totals, used = Counter[str](), Counter[str]()
    for pool in counts.pools:
        totals[pool.pool] += pool.total
        used[pool.pool] += pool.used
    said = {pool.pool: pool for pool in asked.reply(PoolList(network="prod")).pools if pool.pool != "kept"}
    assert totals == {name: pool.total for name, pool in said.items()}
    assert used == {name: pool.used for name, pool in said.items()} == {"web": 2, "default": 2}
    assert totals["default"] > 2**63, "a /64, to the last address"
    assert {(pool.network, pool.pool, pool.family) for pool in counts.pools} == {
        ("prod", name, family) for name in said for family in (4, 6)
    }


def test_a_pool_that_is_larger_than_a_64_is_counted_to_the_last_address(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "fd00:2::/48")
    counts = surveyed(asked).counts
    assert counts is not None
    (pool,) = counts.pools
    (said,) = asked.reply(PoolList(network="prod")).pools
    assert pool.total == said.total
    assert pool.total > 2**79


def test_addresses_that_wait_or_are_quarantined_are_told_apart(asked: Asked):
    asked.pool("web", "10.1.0.10-10.1.0.19", "fd00:1::10-fd00:1::1f")
    for number in range(3):
        asked.attach(f"shop/api-{number}")
    free, gone = asked.attach("shop/api-3"), asked.attach("shop/web-0", pool="web")
    asked.release(free.attachment_id)
    asked.release(gone.attachment_id)
    asked.reply(asked.make(AddressReserve, owner="shop/web-1", pool="web"))
    survey = surveyed(asked)
    assert survey.withheld is not None
    assert survey.counts is not None
    ids = {pool.pool: pool.pool_id for pool in survey.counts.pools}
    assert survey.withheld == {(ids["web"], "waiting"): 4}
    bad = asked.attach("shop/bad-0")
    address = str(bad.addresses[0].address)
    quarantine = AddressQuarantine(
        network="prod", node="n1", attachment_id=bad.attachment_id, address=address, reason="seen"
    )
    asked.reply(quarantine)
    assert surveyed(asked).withheld == {(ids["web"], "waiting"): 4, (ids["default"], "quarantined"): 1}


def test_nodes_networks_and_how_far_they_are_are_counted(asked: Asked, engine: Engine):
    body = {"request_id": "r", "network": "late", "subnets": [{"cidr": "10.2.0.0/24"}]}
    asked.deferred(NetworkCreate.model_validate(body))
    asked.report("late", "n1")
    with engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET state = 'lost' WHERE name = 'n2'"))
    counts = surveyed(asked).counts
    assert counts is not None
    assert counts.nodes == {"ready": 1, "lost": 1}
    assert counts.networks == {"active": 1, "creating": 1}
    assert counts.rollouts == {"ready": 3, "pending": 1}
    assert (counts.outbox.jobs, counts.outbox.answers) == (1, 1), "that of prod is still to be sent"


def test_history_that_was_not_relayed_is_counted_with_the_age_of_its_oldest_row(asked: Asked, engine: Engine):
    asked.attach("shop/api-0")
    with engine.begin() as connection:
        connection.execute(text("UPDATE networks SET relayed_seq = seq"))
    counts = surveyed(asked).counts
    assert counts is not None
    assert counts.lag == (0, 0.0)
    for number in range(1, 4):
        asked.attach(f"shop/api-{number}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE history SET at = at - INTERVAL 1 HOUR"))
    counts = surveyed(asked).counts
    assert counts is not None
    assert counts.lag.rows == 6
    assert counts.lag.oldest_s >= 3600


def test_a_new_epoch_is_no_backlog(asked: Asked, engine: Engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE networks SET relayed_seq = seq"))
        connection.execute(text("UPDATE epochs SET epoch = epoch + 1"))
    asked.attach("shop/api-0")
    counts = surveyed(asked).counts
    assert counts is not None
    assert counts.lag.rows == 2


def test_a_pause_and_the_revision_are_seen(asked: Asked, engine: Engine):
    survey = surveyed(asked)
    assert (survey.paused, survey.outdated, survey.revision) == (False, False, survey.known)
    with engine.begin() as connection:
        connection.execute(text("UPDATE epochs SET paused = 1"))
    survey.look()
    assert survey.paused


def test_a_database_that_takes_no_writes_counts_as_away_though_it_can_be_read(
    asked: Asked, services: LocalServices
):
    survey = surveyed(asked)
    with services.mariadb._admin() as admin, admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = ON")
        try:
            survey.look()
            assert "read-only" in (survey.away or "")
            assert survey.counts is None
        finally:
            cursor.execute("SET GLOBAL read_only = OFF")
    survey.look()
    survey.count()
    assert survey.away is None
    assert survey.counts is not None
