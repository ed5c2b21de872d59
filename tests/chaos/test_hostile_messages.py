"""Messages that nobody can serve: a dead letter each, an error where an answer is owed, and all goes on."""

import asyncio
import json
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from aio_pika.exceptions import AMQPError

from broker import topology
from broker.dead_letters.header import CODE, ROUTING_KEY, SENDER
from schemas.address import AddressRelease
from schemas.history import HistoryList, HistoryPage
from schemas.message import MAX_BODY_BYTES
from tests.chaos.stage import Stage, address_of
from tests.integration.brokering import Broker, Hand, counts, hand, ready, release, take, until

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]


@dataclass(frozen=True)
class Hostile:
    """How a message differs from a good release, and with which code it ends."""

    name: str
    code: str
    differs: dict[str, Any] = field(default_factory=dict)
    request: AddressRelease = field(default_factory=release)

    def __str__(self) -> str:
        return self.name


RIGHT_KEY = topology.routing_key(release())
OTHER_PARTITION = (topology.partition("prod") + 1) % topology.PARTITIONS
HOSTILE = [
    Hostile("malformed", "unreadable", {"body": b'{"network": "prod"'}),
    Hostile("no text", "unreadable", {"body": b"\xff\xfe\x00"}),
    Hostile("unknown field", "invalid_request", {"body": json.dumps({"network": "prod", "x": 1}).encode()}),
    Hostile("unknown request", "unknown_request", {"key": f"{topology.partition('prod')}.address.steal"}),
    Hostile("unknown version", "unsupported_version", {"headers": {"schema_version": 99}}),
    Hostile("no version", "unsupported_version", {"headers": {}}),
    Hostile("oversized", "too_large", {"body": b" " * (MAX_BODY_BYTES + 1)}),
    Hostile("wrong partition", "invalid_request", {"key": f"{OTHER_PARTITION}.address.release"}),
    Hostile("type unlike its key", "sender_forbidden", {"type": "address.allocate"}),
    Hostile("no user", "sender_forbidden", {"user_id": None}),
]
"""As the administrator may publish them: a node's user is stopped by the broker before."""

FOREIGN_NODE = Hostile("node not the sender", "sender_forbidden", request=release(node="node-1"))
ANSWERED = [*HOSTILE, FOREIGN_NODE]
UNANSWERED = Hostile("foreign reply_to", "sender_forbidden")


async def test_a_message_that_nobody_can_serve(stage: Stage):
    pod = await asyncio.to_thread(stage.pod, "shop/web-0")
    address = address_of(await asyncio.to_thread(pod.add))
    for hostile in ANSWERED:
        async with hand(url_for(stage.broker, hostile)) as sender:
            await sent(sender, hostile, topology.REPLY_QUEUE)
            answer = await sender.answer()
            assert answer.error is not None
            assert answer.error.code == hostile.code, (hostile.name, answer)
            await buried(stage.broker, hostile, sender.user)
            await sent(sender, hostile, None)
            await buried(stage.broker, hostile, sender.user)
    for hostile in ANSWERED:
        async with hand(url_for(stage.broker, hostile)) as sender:
            await sent(sender, hostile, None)
    await until(lambda: counts(ready(stage.broker, topology.DEAD), len(ANSWERED)))
    assert address in await asyncio.to_thread(pod.links)
    await asyncio.to_thread(pod.delete)
    assert await asyncio.to_thread(discarded, stage) == Counter(hostile.code for hostile in ANSWERED)


def url_for(broker: Broker, hostile: Hostile) -> str:
    """Whose message it is: a node's, where the broker would let a node send it."""
    return broker.node if hostile is FOREIGN_NODE else broker.admin


def discarded(stage: Stage) -> Counter[str]:
    """Discard all dead letters; the codes of those that history says were discarded."""
    done = stage.command("dead", "discard", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    query = HistoryList.model_validate({"network": "_system"})
    rows = [row for row in stage.ask(query, HistoryPage).rows if row.event == "dead.discarded"]
    assert {row.user_id for row in rows} == {"operator.test"}
    return Counter(letter["code"] for row in rows for letter in row.details["letters"])


async def sent(sender: Hand, hostile: Hostile, answer_to: str | None) -> None:
    properties = {"correlation_id": uuid.uuid4().hex} | hostile.differs
    await sender.publish(hostile.request, answer_to=answer_to, **properties)


async def buried(broker: Broker, hostile: Hostile, user: str) -> None:
    """There is one dead letter, which says who sent what, and why it died."""
    (letter,) = await take(broker, topology.DEAD, 1)
    assert letter.headers[CODE] == hostile.code
    assert letter.headers[ROUTING_KEY] == hostile.differs.get("key", RIGHT_KEY)
    assert letter.body == hostile.differs.get("body", hostile.request.model_dump_json().encode())
    assert letter.headers[SENDER] == (hostile.differs.get("user_id", user) or "")
    assert letter.reply_to is None


async def test_a_message_with_a_foreign_reply_to(stage: Stage):
    """It is never answered: whoever named that queue might not be who reads it."""
    async with hand(stage.broker.admin) as admin:
        victim = await admin.channel.declare_queue("victim", auto_delete=True)
        async with hand(stage.broker.node) as sender:
            await sender.publish(release(), answer_to="victim")
        await buried(stage.broker, UNANSWERED, "node.n1")
        assert await victim.get(no_ack=True, fail=False) is None


async def test_what_the_broker_itself_refuses_a_node(stage: Stage):
    """A node may send what is a node's to send, under its own name alone."""
    forbidden: list[dict[str, Any]] = [
        {"user_id": "node.node-1"},
        {"key": f"{topology.partition('prod')}.network.delete"},
        {"exchange": topology.EVENTS_EXCHANGE},
        {"exchange": topology.DEAD},
    ]
    for differs in forbidden:
        async with hand(stage.broker.node) as sender:
            with pytest.raises(AMQPError):
                await sender.publish(release(), **differs)
    async with hand(stage.broker.node) as sender:
        await sender.publish(release(), answer_to=topology.REPLY_QUEUE)
        assert (await sender.answer()).error is None
