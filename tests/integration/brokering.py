"""A provisioned virtual host of its own for each test, a scripted service and a hand to publish with."""

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from yarl import URL

from broker import provisioning, topology
from broker.consumer import Delivery, Outcome, QueuePlan, Reply, consume
from broker.management import Management
from broker.rpc import RpcClient, rpc_client
from compose.services.identity import ensure_identity
from compose.services.local import LocalServices
from compose.services.programs import find_programs
from compose.services.rabbitmq_node import environment
from schemas.address import AddressRelease, Released
from schemas.errors import Code, ServiceError
from schemas.message import Answer, Request

LIMIT_S = 20.0
NETWORK = "prod"
PARTITION_QUEUE = topology.allocator_queue(topology.partition(NETWORK))
PLAN = QueuePlan(PARTITION_QUEUE, prefetch=64, batch=16)
QUERY_PLAN = QueuePlan(topology.QUERIES_QUEUE, prefetch=64, batch=1, dead_letters=False)


@dataclass(frozen=True)
class Broker:
    """One provisioned virtual host and the users in it."""

    management_url: str
    vhost: str
    admin: str
    allocator: str
    node: str
    producer: str
    operator: str


@contextmanager
def provisioned(management_url: str, amqp_url: str, *, settle_s: float = 0) -> Iterator[Broker]:
    """A virtual host that ends with the context."""
    vhost = f"test {uuid4().hex[:8]}"
    provisioning.create_vhost(management_url, vhost)
    try:
        provisioning.provision(management_url, vhost=vhost, settle_s=settle_s)
        # One password for all, because users outlive virtual hosts and other tests enroll them too.
        known: dict[str, Any] = {"vhost": vhost, "password": "secret"}
        yield Broker(
            management_url=management_url,
            vhost=vhost,
            admin=str(URL(amqp_url).with_path(f"/{vhost}")),
            allocator=provisioning.enroll_allocator(management_url, **known).amqp_url,
            node=provisioning.enroll_node(management_url, "n1", **known).amqp_url,
            producer=provisioning.enroll_client(management_url, "test", "producer", **known).amqp_url,
            operator=provisioning.enroll_client(management_url, "test", "operator", **known).amqp_url,
        )
    finally:
        provisioning.delete_vhost(management_url, vhost)


def empty(broker: Broker) -> None:
    """Throw away what a test left in the shared queues."""
    with Management(broker.management_url) as api:
        for queue in (*topology.shared_queues(), topology.queue_of_node("n1")):
            api.delete("queues", broker.vhost, queue.name, "contents")


def limit_disk(services: LocalServices, *, low: bool) -> None:
    """Make RabbitMQ think that it is low on disk, or not any more: then it blocks whoever publishes."""
    identity = ensure_identity(services.state_dir, data_exists=True)
    env = environment(services.state_dir / "rabbitmq", identity.node, services.rabbitmq.ports)
    script = find_programs().rabbitmq_server.with_name("rabbitmqctl")
    size = "900000GB" if low else "1MB"
    subprocess.run([script, "set_disk_free_limit", size], env=env, check=True, timeout=60)


def release(container: str = "c1", node: str = "n1", network: str = NETWORK) -> AddressRelease:
    """A request that a node may send; its container tells requests apart."""
    return AddressRelease(network=network, node=node, container_id=container, ifname="eth0")


class Script:
    """A service that applies releases and remembers in which order; `act` may decide otherwise."""

    def __init__(self, act: Callable[[Delivery], Outcome | None] | None = None) -> None:
        self.act = act or (lambda _: None)
        self.applied: list[str] = []
        self.batches: list[int] = []
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        with self._lock:
            self.calls += 1
        outcomes = [self.act(delivery) or Reply(Released()) for delivery in deliveries]
        # As with a transaction, nothing counts unless the whole batch went through.
        if deliveries:
            self.batches.append(len(deliveries))
        self.applied.extend(getattr(delivery.request, "container_id", "") for delivery in deliveries)
        return outcomes


def anybody(_: Delivery) -> None:
    """Everybody may ask everything."""


def nobody(delivery: Delivery) -> None:
    """Nobody may ask anything."""
    raise ServiceError(Code.SENDER_FORBIDDEN, f"{delivery.user_id} may not")


@asynccontextmanager
async def consuming(
    broker: Broker,
    service: Callable[[Sequence[Delivery]], Sequence[Outcome]],
    *plans: QueuePlan,
    authorize: Callable[[Delivery], None] = anybody,
) -> AsyncIterator[asyncio.Task[None]]:
    """Consume while the context lasts."""
    work = consume(broker.allocator, plans or (PLAN,), service, authorize=authorize, name="test consumer")
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT_S)


class Hand:
    """Publishes whatever it is told, as any user, and listens for answers."""

    def __init__(self, channel: AbstractChannel, user: str) -> None:
        self.channel = channel
        self.user = user
        self.answers: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def publish(
        self,
        request: Request,
        *,
        exchange: str = topology.REQUESTS_EXCHANGE,
        key: str | None = None,
        body: bytes | None = None,
        answer_to: str | None = None,
        headers: dict[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        """Publish `request`, or what is said instead of its parts. Raises what aio-pika raises."""
        given: dict[str, Any] = {"type": request.NAME, "user_id": self.user, "message_id": uuid4().hex}
        message = aio_pika.Message(
            request.model_dump_json().encode() if body is None else body,
            headers={"schema_version": 1} if headers is None else headers,
            reply_to=answer_to,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            **{**given, **properties},
        )
        target = await self.channel.get_exchange(exchange, ensure=False)
        await target.publish(message, topology.routing_key(request) if key is None else key, timeout=5)

    async def answer(self) -> Answer:
        """The next answer."""
        message = await asyncio.wait_for(self.answers.get(), LIMIT_S)
        return Answer.model_validate_json(message.body)


@asynccontextmanager
async def hand(url: str) -> AsyncIterator[Hand]:
    """A hand for the user in `url`, with its reply queue open."""
    connection = await aio_pika.connect(url, timeout=5)
    try:
        channel = await connection.channel(on_return_raises=True)
        made = Hand(channel, URL(url).user or "")
        replies = await channel.get_queue(topology.REPLY_QUEUE, ensure=False)
        await replies.consume(made.answers.put, no_ack=True)
        yield made
    finally:
        await connection.close()


async def take(broker: Broker, queue: str, count: int) -> list[AbstractIncomingMessage]:
    """The next `count` messages of a queue, which are gone then; fails if there are fewer."""
    taken: list[AbstractIncomingMessage] = []
    connection = await aio_pika.connect(broker.admin, timeout=5)
    async with connection, connection.channel() as channel:
        source = await channel.get_queue(queue, ensure=False)

        async def look() -> bool:
            message = await source.get(no_ack=True, fail=False)
            if message is not None:
                taken.append(message)
            return len(taken) == count

        await until(look)
    return taken


async def ready(broker: Broker, queue: str) -> int:
    """How many messages wait in a queue."""
    connection = await aio_pika.connect(broker.admin, timeout=5)
    async with connection, connection.channel() as channel:
        found = await channel.declare_queue(queue, passive=True)
        return int(found.declaration_result.message_count or 0)


async def until(condition: Callable[[], Awaitable[bool] | bool], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition; fail after `limit_s` seconds."""
    async with asyncio.timeout(limit_s):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[RpcClient]:
    """A client that is connected."""
    async with rpc_client(url, name="test client") as client:
        await until(lambda: client.connected)
        yield client


async def serves(sender: Hand, script: Script, marker: str = "next") -> None:
    """A good request is served: the consumer went on."""
    await sender.publish(release(marker), answer_to=topology.REPLY_QUEUE)
    answer = await sender.answer()
    assert answer.error is None, answer
    assert script.applied[-1] == marker


async def nothing_left(broker: Broker) -> None:
    assert await ready(broker, PARTITION_QUEUE) == 0
    assert await ready(broker, topology.DEAD) == 0


async def counts(found: Any, wanted: int) -> bool:
    return bool(await found == wanted)
