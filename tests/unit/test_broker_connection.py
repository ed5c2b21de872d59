"""A connection that is not to be had, and whoever stops wanting it."""

import asyncio
from typing import Any

import pytest

from broker import connection
from broker.rpc import rpc_client

URL = "amqp://node.n1:secret@127.0.0.1:1/"


@pytest.mark.parametrize("outcome", [ConnectionRefusedError("refused"), None], ids=["refused", "connected"])
async def test_a_cancellation_that_connecting_keeps_to_itself_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, outcome: Exception | None
) -> None:
    """As asyncio.wait_for does before Python 3.12 (cpython #86296)."""
    connecting = asyncio.Event()

    async def connect(*_: Any, **__: Any) -> None:
        connecting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if outcome is not None:
                raise outcome from None

    monkeypatch.setattr(connection._Connection, "connect", connect)
    async with asyncio.timeout(5), rpc_client(URL, name="test"):
        await connecting.wait()


async def test_nobody_is_stopped_who_was_not_told_to() -> None:
    connection.obey()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    connection.obey()
