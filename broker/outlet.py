"""A channel to publish on, opened again whenever it was lost."""

import asyncio

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import PublishError

from broker.connection import Link, close_quietly, explain_loss, is_loss
from schemas.errors import Code, ServiceError


class Unroutable(Exception):
    """The broker took the message and had no queue to put it in."""


class Outlet:
    """Publishes on one channel; with `confirms`, `publish` returns once the broker has the message."""

    def __init__(self, link: Link, *, confirms: bool) -> None:
        self._link = link
        self._confirms = confirms
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, AbstractExchange] = {}
        self._opening = asyncio.Lock()

    async def publish(
        self, message: Message, *, exchange: str, key: str, mandatory: bool, timeout_s: float
    ) -> None:
        """Publish within `timeout_s` seconds, the wait for a connection included.

        Raises `Unroutable` where `mandatory` was given in vain, and `unavailable`: whether the broker has
        the message is then not known.
        """
        try:
            async with asyncio.timeout(timeout_s):
                target = await self._exchange(exchange)
                await target.publish(message, key, mandatory=mandatory)
        except PublishError as error:
            raise Unroutable(f"no queue takes {key} from {exchange or 'the default exchange'}") from error
        except BaseException as error:
            if is_loss(error):
                raise self._lost(error) from error
            raise

    def _lost(self, error: BaseException) -> ServiceError:
        if self._link.problem is not None:
            return self._link.problem
        why = explain_loss(error)
        return ServiceError(
            Code.UNAVAILABLE,
            f"RabbitMQ at {self._link.shown} did not take a message ({why}): see its log, and "
            "`rabbitmqctl list_alarms` for memory or disk alarms",
        )

    async def _exchange(self, name: str) -> AbstractExchange:
        found = self._exchanges.get(name)
        if found is not None and self._channel is not None and not self._channel.is_closed:
            return found
        async with self._opening:
            channel = await self._open()
            exchange = await channel.get_exchange(name, ensure=False)
            self._exchanges[name] = exchange
            return exchange

    async def _open(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed or not self._link.is_open:
            lost, self._channel = self._channel, None
            self._exchanges.clear()
            await close_quietly(lost)
            self._channel = await self._link.channel(confirms=self._confirms)
        return self._channel
