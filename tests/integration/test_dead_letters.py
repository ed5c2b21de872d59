"""Dead letters on a real RabbitMQ: looked at, replayed, discarded, exported; none lost, none twice."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from broker import topology
from broker.consumer import Outcome, QueuePlan, Refused, Reply
from broker.dead_letters import acting
from broker.dead_letters.acting import CAP, Done, Run, discard, replay, restore
from broker.dead_letters.box import Box, Held, letter_box
from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import DELIVERY_LIMIT, Letter, from_json
from broker.dead_letters.post import Post, post
from broker.outcome import Delivery
from schemas.dead import AuditRecord
from schemas.errors import Code, ServiceError
from schemas.message import Done as Recorded
from tests.integration.brokering import (
    PARTITION_QUEUE,
    Broker,
    Script,
    consuming,
    counts,
    hand,
    ready,
    release,
    take,
    until,
)

pytestmark = pytest.mark.services

NO = ServiceError(Code.POOL_UNKNOWN, "there is no pool web")
PLANS = [QueuePlan(topology.allocator_queue(p), prefetch=64, batch=16) for p in range(topology.PARTITIONS)]
EVERYTHING = Choice()


class Ledger(Script):
    """Applies releases, unless their container is in `refused`; keeps what was audited."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.audited: list[AuditRecord] = []
        super().__init__(self._decide)

    def _decide(self, delivery: Delivery) -> Outcome | None:
        if isinstance(delivery.request, AuditRecord):
            self.audited.append(delivery.request)
            return Reply(Recorded())
        return Refused(NO) if getattr(delivery.request, "container_id", "") in self.refused else None

    @property
    def applied_releases(self) -> list[str]:
        return [container for container in self.applied if container]


async def bury(broker: Broker, *containers: str) -> None:
    """Have releases of these containers die one after the other."""
    async with hand(broker.node) as sender, consuming(broker, Ledger(*containers), *PLANS):
        for number, container in enumerate(containers, 1):
            await sender.publish(release(container), content_type="application/json")
            await until(lambda number=number: counts(ready(broker, topology.DEAD), number))


async def letters(broker: Broker, url: str | None = None) -> list[Letter]:
    """All letters, looked at."""
    async with letter_box(url or broker.operator) as box:
        return [held.letter for held in await everything(box)]


async def everything(box: Box) -> list[Held]:
    found: list[Held] = []
    while batch := await box.take(7):
        found += batch
    return found


@asynccontextmanager
async def acting_on(broker: Broker) -> AsyncIterator[tuple[Box, Post]]:
    async with post(broker.operator) as out, letter_box(broker.operator) as box:
        yield box, out


async def replayed(broker: Broker, choice: Choice = EVERYTHING, *, force: bool = False) -> list[Done]:
    run = Run(uuid4().hex, "ann", choice, force=force)
    async with acting_on(broker) as (box, out):
        return [one async for batch in replay(box, out, run) for one in batch]


def names(found: Sequence[Letter]) -> list[str]:
    return [json.loads(letter.body)["container_id"] for letter in found]


async def test_a_letter_tells_its_story(broker: Broker) -> None:
    await bury(broker, "c1")
    [letter] = await letters(broker)
    assert (letter.request, letter.network, letter.node) == ("address.release", "prod", "n1")
    assert (letter.sender, letter.code, letter.reason) == ("node.n1", "pool_unknown", "there is no pool web")
    assert letter.deaths == 1
    assert letter.first_death == letter.last_death
    assert letter.routing_key == f"{topology.partition('prod')}.address.release"


async def test_looking_loses_ages_and_reorders_nothing_however_often(broker: Broker) -> None:
    await bury(broker, "c1", "c2", "c3")
    first = await letters(broker)
    for _ in range(25):  # more often than any delivery limit
        assert await letters(broker) == first
    assert names(first) == ["c1", "c2", "c3"]
    await until(lambda: counts(ready(broker, topology.DEAD), 3))


async def test_letters_that_a_killed_looker_held_are_back(broker: Broker) -> None:
    await bury(broker, "c1", "c2")
    async with letter_box(broker.operator) as box:
        assert len(await everything(box)) == 2
        async with letter_box(broker.operator) as second:
            assert await everything(second) == []
            assert second.shared, "who comes second is told, and does not wait for ever"
        box._hands[0]._wire._writer.transport.abort()
        await until(lambda: counts(ready(broker, topology.DEAD), 2))
    assert names(await letters(broker)) == ["c1", "c2"]


async def test_more_letters_than_one_channel_holds(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    await bury(broker, *(f"c{n}" for n in range(7)))
    monkeypatch.setattr("broker.dead_letters.box.HANDFUL", 3)
    monkeypatch.setattr("broker.dead_letters.hand.HANDFUL", 3)
    assert names(await letters(broker)) == [f"c{n}" for n in range(7)]
    async with consuming(broker, Ledger(), *PLANS):
        done = await replayed(broker)
    assert len(done) == 7
    assert all(one.left is None for one in done)


async def test_a_replay_is_applied_once_written_down_and_gone(broker: Broker) -> None:
    await bury(broker, "c1", "c2")
    served = Ledger()
    async with consuming(broker, served, *PLANS):
        done = await replayed(broker)
        await until(lambda: len(served.audited) == 1 and len(served.applied_releases) == 2)
    assert [one.left for one in done] == [None, None]
    assert served.applied_releases == ["c1", "c2"]
    [record] = served.audited
    assert (record.event, record.actor) == ("dead.replayed", "ann")
    assert [letter.request for letter in record.letters] == ["address.release"] * 2
    assert {letter.sender for letter in record.letters} == {"node.n1"}
    assert await ready(broker, topology.DEAD) == 0
    assert await ready(broker, PARTITION_QUEUE) == 0


async def test_one_that_fails_again_comes_back_with_its_count(broker: Broker) -> None:
    await bury(broker, "c1")
    [before] = await letters(broker)
    async with consuming(broker, Ledger("c1"), *PLANS):
        await replayed(broker)
        await until(lambda: counts(ready(broker, topology.DEAD), 1))
    [after] = await letters(broker)
    assert after.deaths == 2
    assert (after.id, after.sender, after.first_death) == (before.id, "node.n1", before.first_death)
    assert after.last_death > before.last_death
    assert after.body == before.body


async def test_past_the_cap_only_force_replays(broker: Broker) -> None:
    await bury(broker, "c1")
    async with consuming(broker, Ledger("c1"), *PLANS):
        for number in range(2, CAP + 1):
            assert [one.left for one in await replayed(broker)] == [None]
            await until(lambda: counts(ready(broker, topology.DEAD), 1))
            assert (await letters(broker))[0].deaths == number
        [kept] = await replayed(broker)
        assert "--force" in (kept.left or "")
        assert (await letters(broker))[0].deaths == CAP
    served = Ledger()
    async with consuming(broker, served, *PLANS):
        assert [one.left for one in await replayed(broker, force=True)] == [None]
        await until(lambda: served.applied_releases == ["c1"])


async def test_only_what_was_chosen_is_replayed_and_the_rest_stays_in_order(broker: Broker) -> None:
    await bury(broker, "c1", "c2", "c3", "c4")
    found = await letters(broker)
    served = Ledger()
    async with consuming(broker, served, *PLANS):
        await replayed(broker, Choice(ids=(found[1].id[:8], found[2].id)))
        await until(lambda: len(served.applied_releases) == 2)
    assert served.applied_releases == ["c2", "c3"]
    assert names(await letters(broker)) == ["c1", "c4"]


@pytest.mark.parametrize("apart", [2, 3, 200])
async def test_what_was_settled_one_by_one_does_not_come_back(broker: Broker, apart: int) -> None:
    """RabbitMQ keeps settlements beyond 32 back, and most times forgets them with the channel."""
    count = 300
    async with hand(broker.admin) as sender:
        for number in range(count):
            request = release(f"c{number}", network="prod" if number % apart else "lab")
            await sender.publish(request, exchange=topology.DEAD, key="")
    async with letter_box(broker.operator) as box:
        found = await everything(box)
        await box.settle([held for held in found if held.letter.network == "prod"])
    assert names(await letters(broker)) == [f"c{number}" for number in range(0, count, apart)]


async def test_what_a_sender_was_not_allowed_to_ask_no_replay_does_for_it(broker: Broker) -> None:
    """Also where the letter hides it: the consumer looks at who sent it first."""
    other = release("stolen", node="n2")

    def own_alone(delivery: Delivery) -> None:
        if delivery.user_id == "node.n1" and getattr(delivery.request, "node", "n1") != "n1":
            raise ServiceError(Code.SENDER_FORBIDDEN, "not for another node")

    served = Ledger()
    async with hand(broker.node) as sender, consuming(broker, served, *PLANS, authorize=own_alone):
        await sender.publish(other)
        await until(lambda: counts(ready(broker, topology.DEAD), 1))
        [kept] = await replayed(broker, force=True)
        assert "not allowed" in (kept.left or "")
        [letter] = await letters(broker)
        hidden = from_json({**letter.as_json(), "id": "hidden", "code": "internal"})
        async with post(broker.operator) as out:
            await restore(out, Run("r", "ann", EVERYTHING), [hidden])
        await until(lambda: counts(ready(broker, topology.DEAD), 2))
        [done] = await replayed(broker, Choice(ids=("hidden",)))
        assert done.left is None
        await until(lambda: counts(ready(broker, topology.DEAD), 2))
    assert served.applied_releases == []
    back = (await letters(broker))[-1]
    assert (back.id, back.code, back.deaths) == ("hidden", "sender_forbidden", 2)


async def test_a_letter_that_rabbitmq_buried_is_read_and_replayed_and_its_headers_not_believed(
    broker: Broker,
) -> None:
    forged = {
        "schema_version": 1,
        "x-moorage-sender": "operator.root",
        "x-moorage-deaths": 3,
        "x-moorage-replay": "mine",
    }
    async with hand(broker.node) as sender:
        await sender.publish(release("c1"), headers=forged)
        connection = await aio_pika.connect(broker.admin, timeout=5)
        async with connection, connection.channel() as channel:
            queue = await channel.get_queue(PARTITION_QUEUE, ensure=False)

            async def die_of(message: AbstractIncomingMessage) -> None:
                await message.reject(requeue=True)

            await queue.consume(die_of)
            await until(lambda: counts(ready(broker, topology.DEAD), 1))
    [letter] = await letters(broker)
    assert (letter.code, letter.sender, letter.request) == (DELIVERY_LIMIT, "node.n1", "address.release")
    assert (letter.deaths, letter.replay) == (1, None)
    served = Ledger()
    async with consuming(broker, served, *PLANS):
        assert [one.left for one in await replayed(broker)] == [None]
        await until(lambda: served.applied_releases == ["c1"])


@pytest.mark.parametrize("when", ["before the history", "before the request", "before the letter is gone"])
async def test_interrupted_anywhere_no_letter_is_lost(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    await bury(broker, "c1", "c2")
    served = Ledger()

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    async with consuming(broker, served, *PLANS):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            if when == "before the history":
                patched.setattr(acting, "_audit", killed)
            elif when == "before the request":
                patched.setattr(acting, "_replayed", killed)
            else:
                patched.setattr(Box, "settle", killed)
            await replayed(broker)
        await until(lambda: counts(ready(broker, topology.DEAD), 2))
        sent = ["c1", "c2"] if when == "before the letter is gone" else []
        await until(lambda: served.applied_releases == sent)
        await replayed(broker)
        # Sent a second time it is the same request, with the same key: the allocator's tests show the no-op.
        await until(lambda: served.applied_releases == [*sent, "c1", "c2"])
    assert await ready(broker, topology.DEAD) == 0


async def test_discarded_is_gone_and_written_down(broker: Broker) -> None:
    await bury(broker, "c1", "c2")
    found = await letters(broker)
    served = Ledger()
    async with consuming(broker, served, *PLANS), acting_on(broker) as (box, out):
        run = Run("r1", "ann", Choice(ids=(found[0].id,)), reason="the node is gone")
        done = [one async for batch in discard(box, out, run) for one in batch]
        await until(lambda: len(served.audited) == 1)
    assert names([one.letter for one in done]) == ["c1"]
    [record] = served.audited
    assert record.event == "dead.discarded"
    assert record.details["reason"] == "the node is gone"
    assert [letter.id for letter in record.letters] == [found[0].id]
    assert served.applied_releases == []
    assert names(await letters(broker)) == ["c2"]


async def test_exported_and_put_back_it_is_the_same_letter(broker: Broker) -> None:
    await bury(broker, "c1")
    await take_away_and_put_back(broker)
    served = Ledger()
    async with consuming(broker, served, *PLANS):
        await replayed(broker)
        await until(lambda: served.applied_releases == ["c1"])


async def take_away_and_put_back(broker: Broker) -> None:
    [letter] = await letters(broker)
    lines = json.dumps(letter.as_json())
    await take(broker, topology.DEAD, 1)
    async with consuming(broker, Ledger(), *PLANS), post(broker.operator) as out:
        [done] = await restore(out, Run("r", None, EVERYTHING), [from_json(json.loads(lines))])
        assert done.left is None
        await until(lambda: counts(ready(broker, topology.DEAD), 1))
    [back] = await letters(broker)
    assert back == letter


async def test_who_may_not_read_dead_letters_is_told_so(broker: Broker) -> None:
    with pytest.raises(ServiceError) as caught:
        await letters(broker, broker.producer)
    assert caught.value.code == Code.SENDER_FORBIDDEN
    assert "--role operator" in caught.value.message


async def test_without_a_broker_it_says_where_it_looked() -> None:
    with pytest.raises(ServiceError) as caught:
        async with letter_box("amqp://operator.ann:secret@127.0.0.1:1/", timeout_s=1):
            raise AssertionError("there is no box")
    assert caught.value.code == Code.UNAVAILABLE
    assert "127.0.0.1:1" in caught.value.message
    assert "secret" not in caught.value.message


async def test_letters_of_any_shape_can_be_looked_at(broker: Broker) -> None:
    """What a stranger wrote, or a newer version of ours."""
    async with hand(broker.admin) as sender:
        for headers in ({}, {"x-death": "odd"}, {"x-death": [{}]}, {"x-moorage-deaths": "many"}):
            await sender.publish(
                release(), exchange=topology.DEAD, key="", body=b"\xff\x00", headers=headers, message_id=None
            )
    found = await letters(broker)
    assert len(found) == 4
    assert {letter.request for letter in found} == {None}
    async with consuming(broker, Ledger(), *PLANS):
        done = await replayed(broker)
    assert all(one.left and "discard" in one.left for one in done)
    assert len(await letters(broker)) == 4
