"""What leaves an allocator beside the replies of its consumers: answers of jobs, and nudges to nodes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aio_pika import DeliveryMode, Message

from broker.codec import CONTENT_TYPE, encode_answer, is_reply_queue
from broker.connection import Link
from broker.outlet import Outlet, Unroutable
from broker.topology import node_queue
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


@asynccontextmanager
async def poster(url: str, *, name: str) -> AsyncIterator[Poster]:
    """A poster on its own connection, made at the first message. Raises `not_provisioned` for a bad URL."""
    async with Link(url, name=name) as link:
        yield Poster(link)
