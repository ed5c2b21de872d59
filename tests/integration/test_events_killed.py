"""Allocators that are killed again and again: a subscriber still reads every row, in order."""

import asyncio
import os
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from broker.subscriber import events
from compose.services.local import LocalServices
from compose.services.process import Child
from tests.integration.brokering import Broker, provisioned, until
from tests.integration.relaying import first_seen, network, seqs_of, unrelayed, write

pytestmark = pytest.mark.services

LIMIT_S = 60.0


def _allocator(broker: Broker, database_url: str, log: Path, undo: ExitStack) -> Child:
    env = {key: value for key, value in os.environ.items() if not key.startswith("MOORAGE_")}
    env |= {"MOORAGE_AMQP_URL": broker.allocator, "MOORAGE_DATABASE_URL": database_url}
    child = Child("allocator", [sys.executable, "-m", "compose.cli", "allocator"], env=env, log=log)
    undo.callback(child.kill)
    child.start()
    return child


async def test_every_row_is_read_in_order_though_each_allocator_is_killed_while_it_relays(
    services: LocalServices, engine: Engine, tmp_path: Path
):
    prod, read = network(engine), []

    async def listen(url: str) -> None:
        async with aclosing(events(url, name="test reader")) as found:
            async for each in found:
                read.extend(row.seq for row in each.rows)

    with ExitStack() as undo:
        broker = undo.enter_context(provisioned(services.management_url, services.amqp_url))
        reader = asyncio.create_task(listen(broker.operator))
        for number in range(3):
            write(engine, prod, 8_000)
            target = len(read) + 500
            log = tmp_path / f"{number}.log"
            child = _allocator(broker, services.database_url, log, undo)
            await until(lambda: len(read) >= target, LIMIT_S)  # noqa: B023  awaited within the loop
            child.kill()
            assert unrelayed(engine) == 1, "it was killed in the middle of it"
        _allocator(broker, services.database_url, tmp_path / "last.log", undo)
        await until(lambda: unrelayed(engine) == 0, LIMIT_S)
        await until(lambda: len(read) >= 24_000, LIMIT_S)
        reader.cancel()
    assert read == seqs_of(engine, prod) == first_seen(read)
