"""What leaves an allocator beside its consumers' replies: answers of jobs, nudges to nodes, and events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import structlog
from aio_pika import DeliveryMode, Message

from broker.codec import CONTENT_TYPE, VERSION_HEADER, encode_answer, is_reply_queue
from broker.connection import Link
from broker.login import Where
from broker.outlet import Outlet, Unroutable
from broker.topology import EVENTS_EXCHANGE, events_key, node_queue
from schemas.history import Events
from schemas.message import Answer
from schemas.message import Message as Body

POST_S = 5.0
"""How long a message may take to be confirmed, the wait for a connection included."""

log = structlog.get_logger("moorage.broker")


class Poster:
    """Publishes with confirms on a connection of its own."""

    def __init__(self, link: Link) -> None:
        self._outlet = Outlet(link)

    async def answer(self, reply_to: str, correlation_id: str, request_name: str, answer: Answer) -> None:
        """Deliver a job's answer; returns once the broker has it. Raises `unavailable`.

        A caller that is gone is no failure: RabbitMQ drops what nobody waits for, and the caller repeats
        its request.
        """
        if not is_reply_queue(reply_to):
            log.warning("answer dropped", request=request_name, reason="not a reply queue", reply_to=reply_to)
            return
        message = encode_answer(answer, request=request_name, correlation_id=correlation_id)
        await self._outlet.publish(message, exchange="", key=reply_to, mandatory=False, timeout_s=POST_S)

    async def nudge(self, node: str, message: Body) -> None:
        """Tell a node that there is something to do. Raises `unavailable`; one without a queue is logged."""
        letter = Message(
            message.model_dump_json().encode(),
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.NOT_PERSISTENT,
        )
        try:
            await self._outlet.publish(
                letter, exchange="", key=node_queue(node), mandatory=True, timeout_s=POST_S
            )
        except Unroutable:
            log.warning(
                "nudge dropped", node=node, reason="it has no queue; enroll it: `moorage node enroll NAME`"
            )

    async def events(self, network: str, body: bytes) -> None:
        """Give one body of `Events` to all who subscribed; returns once the broker has it.

        Raises `unavailable`. That nobody subscribed is no failure.
        """
        message = Message(
            body,
            headers={VERSION_HEADER: Events.VERSION},
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
            type=Events.NAME,
            message_id=uuid4().hex,
        )
        key = events_key(network)
        await self._outlet.publish(
            message, exchange=EVENTS_EXCHANGE, key=key, mandatory=False, timeout_s=POST_S
        )


@asynccontextmanager
async def poster(url: Where, *, name: str) -> AsyncIterator[Poster]:
    """A poster on its own connection, made at the first message. Raises `not_provisioned` for a bad URL."""
    async with Link(url, name=name) as link:
        yield Poster(link)
