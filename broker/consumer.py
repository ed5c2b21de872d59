"""Requests from queues to a service, and what happens to each failure: the table is `settle`, here alone.

The order is: the service commits, then the replies go out, then one ack. A process that dies in between
gets the same requests again, and requests are idempotent.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from broker.codec import answer_body, decode, is_reply_queue
from broker.connection import Backoff, Link, explain_loss, is_loss, obey
from broker.dead_letters.burial import dead_letter, first_sender
from broker.frames import Arrived
from broker.intake import Intake, intake
from broker.login import Where
from broker.metrics import Served
from broker.outcome import (
    DEFERRED,
    AtOnce,
    Authorize,
    Broken,
    Deferred,
    Delivery,
    Dropped,
    Failed,
    Outcome,
    Refused,
    Reply,
    Service,
    Unavailable,
    Verdict,
)
from broker.outlet import Answered, Outlet, Replies, Unroutable
from broker.sender_clocks import SenderClocks
from broker.serving import Calm, Serving, internal
from broker.telling import Telling
from broker.topology import DEAD, queue_of, request_name
from schemas.errors import Code, ServiceError
from schemas.message import Message

__all__ = [
    "DEFERRED",
    "Authorize",
    "Deferred",
    "Delivery",
    "Dropped",
    "Outcome",
    "QueuePlan",
    "Refused",
    "Reply",
    "Service",
    "Unavailable",
    "consume",
    "settle",
]

_PUBLISH_S = 5.0
_FINISH_S = 5.0
_WORN = 10
"""From this many deliveries on (the queue's limit is 20) a message is held rather than given back."""

_Read = Delivery | Broken | Failed

log = structlog.get_logger("moorage.broker")


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """How one queue is consumed: `prefetch` messages ahead, up to `batch` to the service at once.

    Without `dead_letters` what cannot be served is answered with an error or dropped. `delay_s` lets
    another process become the queue's active consumer first. With `apart_s`, batches that are not full are so
    many seconds apart. `quiet` ones are logged at level debug alone.
    """

    name: str
    prefetch: int
    batch: int
    dead_letters: bool = True
    delay_s: float = 0.0
    apart_s: float = 0.0
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is done before the ack: answer the caller, write a dead letter, both or neither."""

    answer: Message | ServiceError | None = None
    death: ServiceError | None = None


def settle(verdict: Verdict, *, awaited: bool, dead_letters: bool) -> Settlement:
    """The failure table (DESIGN section 4). `awaited`: somebody waits on a reply queue.

    `Unavailable` is not in it: nothing is settled then, and the same messages are served later.
    """
    match verdict:
        case Reply(message):
            return Settlement(answer=message if awaited else None)
        case Deferred() | Dropped():
            return Settlement()
        case Refused(error):
            buried = dead_letters and not awaited
        case Broken(error) | Failed(error):
            buried = dead_letters
    return Settlement(answer=error if awaited else None, death=error if buried else None)


async def consume(
    url: Where,
    queues: Sequence[QueuePlan],
    service: Service,
    *,
    authorize: Authorize,
    name: str,
    at_once: AtOnce | None = None,
    served: Served | None = None,
    clocks: SenderClocks | None = None,
) -> None:
    """Serve `queues` until cancelled; a broker or a service that is away is waited for, for ever.

    Each queue has a channel and a thread of its own; what `at_once` takes needs no thread. Replies and dead
    letters leave over a second connection, because the broker's alarms block publishing connections. What is
    `served` is counted there; `clocks` are what is known of those of the senders. Raises `not_provisioned`
    for a URL that cannot be used.
    """
    served, clocks = served or Served(CollectorRegistry()), clocks or SenderClocks()
    async with (
        Link(url, name=name) as source,
        Link(url, name=f"{name} replies") as target,
        asyncio.TaskGroup() as group,
    ):
        calm = Calm()
        for plan in queues:
            serving = Serving(service, plan.name, at_once=at_once, calm=calm)
            telling = Telling(plan.name, served, clocks, quiet=plan.quiet)
            consumer = _Consumer(plan, serving, authorize, source, target, served, telling)
            group.create_task(consumer.run(), name=plan.name)


class _Consumer:
    """One queue."""

    def __init__(
        self,
        plan: QueuePlan,
        serving: Serving,
        authorize: Authorize,
        source: Link,
        target: Link,
        served: Served,
        telling: Telling,
    ) -> None:
        self._plan = plan
        self._serving = serving
        self._served = served
        self._telling = telling
        self._authorize = authorize
        self._source, self._target = source, target
        self._replies = Replies(target)
        self._letters = Outlet(target)
        self._backoff = Backoff(longest_s=2.0)
        self._log = log.bind(queue=plan.name)

    async def run(self) -> None:
        """Consume until cancelled."""
        try:
            await asyncio.sleep(self._plan.delay_s)
            while True:
                try:
                    await self._consume()
                except Unavailable as away:
                    self._telling.watched.closed(str(away))
                    self._log.warning("stopped consuming", reason=str(away))
                    await self._until_able()
                except BaseException as error:
                    if not (is_loss(error) or isinstance(error, ServiceError | Unroutable)):
                        raise
                    obey()
                    self._telling.watched.closed(explain_loss(error))
                    self._log.warning("consumes again soon", reason=explain_loss(error))
                    await self._backoff.wait()
        finally:
            self._serving.close()

    async def _consume(self) -> None:
        plan = self._plan
        arriving = intake(self._source, plan.name, prefetch=plan.prefetch, apart_s=plan.apart_s)
        async with arriving as taken:
            self._telling.watched.opened()
            while True:
                messages = await taken.take(plan.batch)
                self._telling.waits(messages[0])
                await _finished(self._handle(taken, messages))
                self._telling.waits(taken.next)
                self._backoff.reset()

    async def _until_able(self) -> None:
        able = False
        while not able:
            await self._backoff.wait()
            able = await self._serving.is_able() and await self._target.writable()
        self._log.info("consumes again")

    async def _handle(self, taken: Intake, messages: Sequence[Arrived]) -> None:
        if not await self._target.writable():
            raise Unavailable("RabbitMQ takes no messages: see `rabbitmqctl list_alarms`")
        taken_at = time.monotonic()
        # Each giving back counts as a delivery, and at the limit RabbitMQ makes a dead letter of a message.
        worn = any(_times_delivered(message) >= _WORN for message in messages)
        held = self._backoff if worn else None
        read = [self._read(message) for message in messages]
        deliveries = [item for item in read if isinstance(item, Delivery)]
        try:
            outcomes = iter(await self._serving.together(deliveries, held=held) if deliveries else ())
        except Unavailable:
            raise
        except Exception as error:
            self._log.warning("batch failed, each request alone", size=len(messages), reason=repr(error))
            for message, item in zip(messages, read, strict=True):
                await self._settle(taken, [message], [item], [await self._alone(item, held)], taken_at)
        else:
            verdicts = [next(outcomes) if isinstance(item, Delivery) else item for item in read]
            await self._settle(taken, messages, read, verdicts, taken_at)

    async def _alone(self, item: _Read, held: Backoff | None) -> Verdict:
        return await self._serving.alone(item, held=held) if isinstance(item, Delivery) else item

    def _read(self, message: Arrived) -> _Read:
        try:
            request = decode(message)
            _check_place(message, self._plan.name)
            delivery = Delivery(
                request,
                message.user_id or "",
                message.reply_to or None,
                message.correlation_id,
                message.message_id,
            )
            self._authorize(delivery)
            first = first_sender(message)
            if first is not None:  # a replay lends its sender's powers to nobody
                self._authorize(replace(delivery, user_id=first))
        except ServiceError as error:
            return Broken(error)
        except Exception as error:
            self._log.exception("message failed to be read", message_id=message.message_id)
            return Failed(internal(error))
        return delivery

    async def _settle(
        self,
        taken: Intake,
        messages: Sequence[Arrived],
        read: Sequence[_Read],
        verdicts: Sequence[Verdict],
        taken_at: float,
    ) -> None:
        """Replies and dead letters of consecutive messages, then one ack. Raises where one was not taken."""
        answers: list[Answered] = []
        deaths: list[tuple[Arrived, ServiceError]] = []
        for message, verdict in zip(messages, verdicts, strict=True):
            reply_to = message.reply_to if message.reply_to and is_reply_queue(message.reply_to) else None
            settlement = settle(verdict, awaited=reply_to is not None, dead_letters=self._plan.dead_letters)
            self._tell(message, verdict, settlement)
            if settlement.answer is not None and reply_to is not None:
                name, body = request_name(message.routing_key), answer_body(settlement.answer)
                answers.append(Answered(reply_to, message.correlation_id, name, body))
            if settlement.death is not None:
                deaths.append((message, settlement.death))
        if answers:
            await self._replies.send(answers, timeout_s=_PUBLISH_S)
        for message, error in deaths:
            letter = dead_letter(message, error)
            await self._letters.publish(letter, exchange=DEAD, key="", mandatory=True, timeout_s=_PUBLISH_S)
            self._served.died(error.code)
        taken.ack(messages[-1])
        self._telling.settled(messages, read, verdicts, taken_at)

    def _tell(self, message: Arrived, verdict: Verdict, settlement: Settlement) -> None:
        if isinstance(verdict, Reply | Deferred):
            return
        self._log.warning(
            "dead letter" if settlement.death else "request not served",
            routing_key=message.routing_key,
            user=message.user_id,
            message_id=message.message_id,
            reason=verdict.reason if isinstance(verdict, Dropped) else str(verdict.error),
            answered=settlement.answer is not None,
        )


async def _finished(handling: Coroutine[Any, Any, None]) -> None:
    """Let a batch that was begun come to its ack also when the process is told to stop.

    It may be committed already, and whoever asked would be answered only once a successor has it again.
    """
    task = asyncio.create_task(handling)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_FINISH_S)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # read: nobody else will
        raise


def _check_place(message: Arrived, queue: str) -> None:
    """Raise `sender_forbidden` for a copy: the header CC puts one into any queue whose key it names.

    RabbitMQ 3 checks a user's permissions on the message's own key alone (rabbitmq-website, sender-selected).
    """
    if queue_of(message.routing_key) != queue:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"a message with the routing key {message.routing_key} does not belong into {queue}: publish it "
            "without the headers CC and BCC",
        )


def _times_delivered(message: Arrived) -> int:
    count = message.headers.get("x-delivery-count")
    return count if isinstance(count, int) else 0
