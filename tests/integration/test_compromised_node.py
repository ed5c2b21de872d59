"""A thief with the credentials of a node tries all that a node may not: each attempt is refused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from allocator.senders import authorize
from broker import provisioning, topology
from broker.dead_letters.header import CODE, SENDER
from broker.inspection import log_in
from broker.topology import DEAD, EVENTS_EXCHANGE, HEARTBEATS, QUERIES_QUEUE, REQUESTS_EXCHANGE
from schemas.errors import Code, ServiceError
from schemas.message import Request
from schemas.network import NetworkCreate, NetworkDelete, NetworkList
from schemas.node import NodeFence, NodeHeartbeat, NodeReport, NodeSync
from tests.integration.brokering import (
    PLAN,
    QUERY_PLAN,
    Broker,
    Hand,
    Script,
    consuming,
    hand,
    ready,
    release,
    take,
    until,
)

pytestmark = pytest.mark.services

SESSION = "00000000-0000-0000-0000-000000000001"
OTHER = "n2"
OTHER_QUEUE = topology.node_queue(OTHER)
SHARED = [queue.name for queue in topology.shared_queues()]
NOT_MINE = [OTHER_QUEUE, topology.events_queue("operator.test"), *SHARED]
CREATE = NetworkCreate.model_validate(
    {"request_id": "r1", "network": "prod", "subnets": [{"cidr": "10.20.0.0/24"}]}
)
ADMINISTRATIVE = [
    CREATE,
    NetworkDelete.model_validate({"request_id": "r2", "network": "prod", "expected_version": 1}),
    NodeFence.model_validate({"request_id": "r3", "node": OTHER, "session": SESSION, "reason": "off"}),
]
AS_ANOTHER = [
    release(node=OTHER),
    NodeSync.model_validate({"node": OTHER, "session": SESSION}),
    NodeHeartbeat.model_validate({"node": OTHER, "session": SESSION}),
    NodeReport.model_validate(
        {"node": OTHER, "session": SESSION, "network": "prod", "version": 1, "result": "ready"}
    ),
]
Attempt = Callable[[AbstractChannel], Awaitable[object]]


@pytest.fixture
def attacked(broker: Broker) -> Broker:
    """The broker with a second node, whose worker the first one's credentials shall not reach."""
    provisioning.enroll_node(broker.management_url, OTHER, vhost=broker.vhost, password="secret")
    return broker


@pytest.fixture
async def attacker(attacked: Broker) -> AsyncIterator[Hand]:
    """A connection with the credentials of node n1."""
    async with hand(attacked.node) as made:
        yield made


async def refused(attacked: Broker, attempt: Attempt) -> None:
    """RabbitMQ answers `attempt` with ACCESS_REFUSED and closes the channel."""
    async with hand(attacked.node) as attacker:
        with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
            await attempt(attacker.channel)


@pytest.mark.parametrize("queue", NOT_MINE)
async def test_it_reads_no_queue_but_its_own(attacked: Broker, queue: str):
    async def consume(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).consume(_nothing)

    async def get(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).get(fail=False)

    await refused(attacked, consume)
    await refused(attacked, get)


@pytest.mark.parametrize("queue", [topology.node_queue("n1"), *NOT_MINE])
async def test_it_deletes_no_queue(attacked: Broker, queue: str):
    async def delete(channel: AbstractChannel) -> None:
        await channel.queue_delete(queue)

    await refused(attacked, delete)


@pytest.mark.parametrize("queue", NOT_MINE)
async def test_it_purges_no_queue_but_its_own(attacked: Broker, queue: str):
    async def purge(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).purge()

    await refused(attacked, purge)


@pytest.mark.parametrize("name", ["", "mine", topology.node_queue("n3"), OTHER_QUEUE, QUERIES_QUEUE])
@pytest.mark.parametrize("options", [{"exclusive": True}, {"durable": True}], ids=str)
async def test_it_declares_no_queue(attacked: Broker, name: str, options: dict[str, Any]):
    async def declare(channel: AbstractChannel) -> None:
        await channel.declare_queue(name or None, **options)

    await refused(attacked, declare)


@pytest.mark.parametrize("name", ["mine", REQUESTS_EXCHANGE, EVENTS_EXCHANGE])
async def test_it_declares_and_deletes_no_exchange(attacked: Broker, name: str):
    async def declare(channel: AbstractChannel) -> None:
        await channel.declare_exchange(name, "topic", durable=True)

    async def delete(channel: AbstractChannel) -> None:
        await channel.exchange_delete(name)

    await refused(attacked, declare)
    await refused(attacked, delete)


@pytest.mark.parametrize("exchange", [REQUESTS_EXCHANGE, EVENTS_EXCHANGE, DEAD])
@pytest.mark.parametrize("queue", [topology.node_queue("n1"), OTHER_QUEUE, topology.allocator_queue(0)])
async def test_it_binds_and_unbinds_nothing(attacked: Broker, exchange: str, queue: str):
    async def bind(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).bind(exchange, "#")

    async def unbind(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).unbind(exchange, "0.#")

    async def join(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(REQUESTS_EXCHANGE, ensure=False)
        await target.bind(exchange, "#")

    for attempt in (bind, unbind, join):
        await refused(attacked, attempt)


async def test_it_reads_no_other_programs_answers(attacked: Broker):
    """Not even where it knows the name of the queue, which RabbitMQ tells to nobody but the allocator."""
    async with hand(attacked.operator) as victim, hand(attacked.allocator) as spy:
        await victim.publish(NetworkList(), answer_to=topology.REPLY_QUEUE)
        queue = await spy.channel.get_queue(QUERIES_QUEUE, ensure=False)
        await until(lambda: _waits(attacked, QUERIES_QUEUE))
        message = await queue.get(no_ack=True)
        replies = message.reply_to if message is not None else None
        assert replies is not None and replies.startswith(topology.REPLY_QUEUE)
        for name in (replies, f"{topology.REPLY_QUEUE}.guessed"):
            assert await asyncio.to_thread(_steal, attacked.node, name) in ("ACCESS_REFUSED", "NOT_FOUND")
            async with hand(attacked.node) as attacker:
                with pytest.raises(ChannelAccessRefused):
                    await attacker.publish(release(), exchange="", key=name)
        assert victim.answers.empty()


@pytest.mark.parametrize("key", [OTHER_QUEUE, *SHARED, topology.node_queue("n1"), topology.REPLY_QUEUE])
async def test_it_does_not_use_the_default_exchange(attacked: Broker, attacker: Hand, key: str):
    with pytest.raises(ChannelAccessRefused):
        await attacker.publish(release(), exchange="", key=key)


@pytest.mark.parametrize("exchange", [EVENTS_EXCHANGE, DEAD, "amq.topic", "amq.fanout", "amq.direct"])
async def test_it_publishes_to_no_exchange_but_that_of_requests(attacker: Hand, exchange: str):
    with pytest.raises(ChannelAccessRefused):
        await attacker.publish(release(), exchange=exchange, key="events.prod")


@pytest.mark.parametrize("request_", ADMINISTRATIVE, ids=lambda r: r.NAME)
async def test_it_sends_no_administrative_request(attacker: Hand, request_: Request):
    with pytest.raises(ChannelAccessRefused):
        await attacker.publish(request_)


@pytest.mark.parametrize("request_", ADMINISTRATIVE, ids=lambda r: r.NAME)
async def test_nor_one_that_poses_as_something_else(attacked: Broker, attacker: Hand, request_: Request):
    """The routing key decides what it is; another type, or a body of another kind, is a dead letter."""
    script = Script()
    async with consuming(attacked, script, authorize=authorize):
        await attacker.publish(request_, key=topology.routing_key(release()))
        await attacker.publish(request_, key=topology.routing_key(release()), type="address.release")
        letters = await take(attacked, DEAD, 2)
    codes = [letter.headers[CODE] for letter in letters]
    assert codes == [Code.SENDER_FORBIDDEN, Code.INVALID_REQUEST]
    assert script.applied == []


@pytest.mark.parametrize("user", ["node.n2", "operator.test", "allocator", "admin"])
async def test_it_publishes_as_nobody_else(attacker: Hand, user: str):
    with pytest.raises(ChannelPreconditionFailed, match="user_id"):
        await attacker.publish(release(), user_id=user)


@pytest.mark.parametrize("request_", AS_ANOTHER, ids=lambda r: r.NAME)
async def test_it_asks_nothing_for_another_node(attacked: Broker, attacker: Hand, request_: Request):
    plans = [
        *(PLAN.__class__(topology.allocator_queue(p), prefetch=16, batch=4) for p in range(4)),
        PLAN.__class__(HEARTBEATS, prefetch=16, batch=4),
    ]
    script = Script()
    async with consuming(attacked, script, *plans, authorize=authorize):
        await attacker.publish(request_, answer_to=topology.REPLY_QUEUE)
        answer = await attacker.answer()
        assert answer.error is not None and answer.error.code == Code.SENDER_FORBIDDEN
        (letter,) = await take(attacked, DEAD, 1)
    assert letter.headers[SENDER] == "node.n1"
    assert script.applied == []


async def test_a_request_without_a_user_is_not_served(attacked: Broker, attacker: Hand):
    script = Script()
    async with consuming(attacked, script, authorize=authorize):
        await attacker.publish(release(), user_id=None)
        (letter,) = await take(attacked, DEAD, 1)
    assert letter.headers[CODE] == Code.SENDER_FORBIDDEN
    assert script.applied == []


async def test_no_answer_goes_where_it_says(attacked: Broker, attacker: Hand):
    """The allocator may write to every queue; whoever chose where could have it write there."""
    script = Script()
    targets = [OTHER_QUEUE, DEAD, QUERIES_QUEUE, topology.allocator_queue(1), "amq.rabbitmq.reply-to.x"]
    async with consuming(attacked, script, authorize=authorize):
        for target in targets:
            await attacker.publish(release(), answer_to=target)
        await take(attacked, DEAD, len(targets))
    assert script.applied == []
    assert [await ready(attacked, queue) for queue in targets[:-1]] == [0] * 4


@pytest.mark.parametrize("header", ["CC", "BCC"])
async def test_no_copy_of_its_messages_is_served_where_it_does_not_belong(
    attacked: Broker, attacker: Hand, header: str
):
    """RabbitMQ 3 looks at the message's own key alone, not at those that these headers name."""
    elsewhere = [f"{p}.network.create" for p in range(4) if f"{p}." not in topology.routing_key(release())]
    headers = {"schema_version": 1, header: [*elsewhere, "query.network.list", "node.heartbeat"]}
    script, others, queries = Script(), Script(), Script()
    strays = [PLAN.__class__(f"moorage.allocator.{key[0]}", prefetch=16, batch=4) for key in elsewhere]
    strays.append(PLAN.__class__(HEARTBEATS, prefetch=16, batch=4))
    await attacker.publish(release("mine"), headers=headers)
    async with (
        consuming(attacked, script, authorize=authorize),
        consuming(attacked, others, *strays, authorize=authorize),
        consuming(attacked, queries, QUERY_PLAN, authorize=authorize),
    ):
        letters = await take(attacked, DEAD, len(strays))
        await until(lambda: script.applied == ["mine"])
        await until(lambda: _waits(attacked, QUERIES_QUEUE, 0))
    assert {letter.headers[CODE] for letter in letters} == {Code.SENDER_FORBIDDEN}
    assert (others.applied, queries.applied) == ([], [])


def test_the_management_api_lets_it_do_nothing(attacked: Broker):
    user = URL(attacked.node)
    api = str(URL(attacked.management_url).with_user(None).with_password(None))
    with httpx.Client(base_url=api, auth=(user.user or "", user.password or "")) as client:
        for path in ("overview", "queues", "users", "connections", "definitions", "whoami"):
            assert client.get(f"/api/{path}").status_code in (401, 403), path


@pytest.mark.parametrize("vhost", ["/", "nowhere"])
async def test_no_other_virtual_host_lets_it_in(attacked: Broker, vhost: str):
    provisioning.enroll_node(attacked.management_url, "n3", vhost=attacked.vhost, password="secret")
    url = str(URL(attacked.node).with_user("node.n3")).rpartition("/")[0] + "/" + quote(vhost, safe="")
    with pytest.raises(ServiceError, match="may not use it"):
        await log_in(url)


def _steal(url: str, queue: str) -> str:
    """What RabbitMQ says to whoever consumes this queue. aio-pika itself would refuse such a name."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        connection.channel().basic_consume(queue, lambda *_: None, auto_ack=True)
    except pika.exceptions.ChannelClosedByBroker as error:
        return error.reply_text.partition(" ")[0]
    finally:
        connection.close()
    return "it may"


async def _nothing(_: object) -> None:
    raise AssertionError("it got a message")


async def _waits(broker: Broker, queue: str, count: int = 1) -> bool:
    return await ready(broker, queue) == count
