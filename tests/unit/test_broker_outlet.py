"""Publishers that share a channel, and what becomes of it when one of them waits in vain."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aio_pika import Message

from broker.outlet import Outlet
from schemas.errors import ServiceError
from tests.integration.brokering import until

LIMIT_S = 20


class FakeChannel:
    """A channel that confirms what is published, or keeps whoever publishes waiting."""

    def __init__(self, *, confirms: bool) -> None:
        self.is_closed = False
        self._confirms = confirms
        self._lost = asyncio.Event()
        self.waiting = 0

    async def get_exchange(self, *_: Any, **__: Any) -> "FakeChannel":
        return self

    async def publish(self, *_: Any, **__: Any) -> None:
        if not self._confirms:
            self.waiting += 1
            await self._lost.wait()
            raise ConnectionResetError("the channel was closed")

    async def close(self) -> None:
        self.is_closed = True
        self._lost.set()


class FakeLink:
    """A link whose first channel confirms nothing."""

    problem = None
    shown = "amqp://a"
    is_open = True

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []

    async def wired_channel(self, *, confirms: bool) -> tuple[FakeChannel, SimpleNamespace]:
        assert confirms
        self.channels.append(FakeChannel(confirms=bool(self.channels)))
        return self.channels[-1], SimpleNamespace()


async def sent(outlet: Outlet, timeout_s: float) -> None:
    await outlet.publish(Message(b""), exchange="x", key="k", mandatory=False, timeout_s=timeout_s)


async def test_who_waited_on_a_channel_that_is_gone_leaves_its_successor_alone():
    """Or each of many that fail together would close what the next one has opened."""
    link = FakeLink()
    outlet = Outlet(link)  # type: ignore[arg-type]
    async with asyncio.timeout(LIMIT_S):
        patient = [asyncio.create_task(sent(outlet, LIMIT_S)) for _ in range(3)]
        await until(lambda: bool(link.channels) and link.channels[0].waiting == len(patient))
        closing = link.channels[0].close

        async def close_with_a_successor() -> None:
            await sent(outlet, LIMIT_S)
            await closing()

        link.channels[0].close = close_with_a_successor  # type: ignore[method-assign]
        with pytest.raises(ServiceError, match="did not take a message"):
            await sent(outlet, 0.01)
        assert all(
            isinstance(each, ServiceError) for each in await asyncio.gather(*patient, return_exceptions=True)
        )
        assert [channel.is_closed for channel in link.channels] == [True, False]
        await sent(outlet, LIMIT_S)
    assert len(link.channels) == 2
