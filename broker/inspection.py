"""What a broker is like, for people: whether it lets a user in, and what its queues hold. Changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from broker.connection import Link, close_quietly, explain_loss, is_loss, parse_url
from broker.login import Where
from schemas.errors import Code, ServiceError

T = TypeVar("T")

_NAME = "doctor"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages wait in a queue, and how many consumers it has."""

    messages: int
    consumers: int


Seen = QueueDepth | ServiceError
"""What is known of a queue, or why nothing is."""


def user_of(url: Where) -> str:
    """The user that an AMQP URL names. Raises `not_provisioned` for a URL that cannot be used."""
    return parse_url(url).user or ""


def vhost_of(url: Where) -> str:
    """The virtual host that an AMQP URL names."""
    return unquote(parse_url(url).raw_path.removeprefix("/")) or "/"


async def log_in(url: Where) -> str:
    """Open a connection and a channel; the broker's address as it may be shown.

    Raises ServiceError: `unavailable`, or `not_provisioned` where the broker refuses this user.
    """
    async with Link(url, name=_NAME) as link:
        await close_quietly(await _channel(link))
        return link.shown


async def depths(url: Where, queues: Iterable[str]) -> dict[str, Seen]:
    """What each of `queues` holds. Any user may ask this. Raises as `log_in` does."""

    async def look(channel: AbstractChannel, name: str) -> Seen:
        queue = await channel.declare_queue(name, passive=True)
        told = queue.declaration_result
        return QueueDepth(told.message_count or 0, told.consumer_count or 0)

    return await _each(url, queues, look)


async def missing_exchanges(url: Where, exchanges: Iterable[str]) -> list[str]:
    """Those of `exchanges` that the broker does not have. Raises as `log_in` does."""

    async def look(channel: AbstractChannel, name: str) -> None:
        await channel.declare_exchange(name, passive=True)

    found = await _each(url, exchanges, look)
    return [name for name, seen in found.items() if isinstance(seen, ServiceError)]


async def _each(
    url: Where, names: Iterable[str], look: Callable[[AbstractChannel, str], Awaitable[T]]
) -> dict[str, T | ServiceError]:
    """What `look` says of each name; a refusal ends the channel, so the next one gets another."""
    found: dict[str, T | ServiceError] = {}
    async with Link(url, name=_NAME) as link:
        channel: AbstractChannel | None = None
        for name in names:
            try:
                channel = channel or await _channel(link)
                found[name] = await look(channel, name)
            except ChannelNotFoundEntity:
                found[name], channel = ServiceError(Code.NOT_PROVISIONED, f"there is no {name}"), None
            except ChannelAccessRefused:
                message = f"user {link.user} may not look at {name}"
                found[name], channel = ServiceError(Code.SENDER_FORBIDDEN, message), None
            except BaseException as error:
                if not is_loss(error):
                    raise
                raise ServiceError(Code.UNAVAILABLE, f"RabbitMQ is away: {explain_loss(error)}") from error
        await close_quietly(channel)
    return found


async def _channel(link: Link) -> AbstractChannel:
    """A channel at the first attempt, or why there is none, raised."""
    refused: asyncio.Future[ServiceError] = asyncio.get_running_loop().create_future()

    def note() -> None:
        if link.problem is not None and not refused.done():
            refused.set_result(link.problem)

    link.on_problem = note
    opening = asyncio.create_task(link.channel())
    either: set[asyncio.Future[Any]] = {opening, refused}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        raise refused.result()
    try:
        return opening.result()
    except BaseException as error:
        if not is_loss(error):
            raise
        raise ServiceError(Code.UNAVAILABLE, f"RabbitMQ is away: {explain_loss(error)}") from error
