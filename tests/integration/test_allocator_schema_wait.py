"""An allocator on another schema than its own: it waits for an older one, and serves a newer one."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from allocator import schema
from allocator.database import open_engine
from compose.schema_wait import schema_ready
from compose.services.local import LocalServices

pytestmark = pytest.mark.services

_numbers = count()


@pytest.fixture
def empty(services: LocalServices) -> Iterator[Engine]:
    """A database without a table."""
    engine = open_engine(services.create_database(f"waiting_{next(_numbers)}"))
    yield engine
    engine.dispose()


async def until_told(logs: list, words: str) -> None:
    async with asyncio.timeout(20):
        while not any(words in str(entry) for entry in logs):  # noqa: ASYNC110  a log has no event
            await asyncio.sleep(0.01)


async def test_an_older_schema_is_waited_for_and_served_once_upgraded(empty: Engine):
    with capture_logs() as logs:
        waiting = asyncio.create_task(schema_ready(empty, again_s=0.05))
        await until_told(logs, "revision none")
        await asyncio.to_thread(schema.upgrade_to, empty, "0019")
        await until_told(logs, "revision 0019")
        assert not waiting.done()
        await asyncio.to_thread(schema.upgrade, empty)
        async with asyncio.timeout(20):
            await waiting
    assert all("`moorage db upgrade`" in entry["reason"] for entry in logs)
    assert len({entry["reason"] for entry in logs}) == len(logs)  # each reason once


async def test_a_newer_schema_is_served_and_said_once(empty: Engine):
    await asyncio.to_thread(schema.upgrade, empty)
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with capture_logs() as logs:
        await schema_ready(empty)
    (said,) = logs
    assert (said["found"], said["known"]) == ("9999", schema.head())
    assert "update this allocator" in said["advice"]


def test_a_newer_schema_is_left_as_it_is_by_an_upgrade(empty: Engine):
    schema.upgrade(empty)
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert schema.upgrade(empty) == "9999"
