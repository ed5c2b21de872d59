"""Asking over a real RabbitMQ: answers, errors, and brokers that are away, killed or not set up."""

import asyncio
import os
import signal
import time

import pytest

from broker import provisioning, session, topology
from broker.consumer import DEFERRED, Deferred, Delivery, QueuePlan, Refused
from broker.inbox import nudges
from broker.management import Management
from broker.poster import poster
from broker.rpc import rpc_client
from broker.sending import Sending
from compose.services.local import LocalServices
from schemas.address import Released
from schemas.errors import Code, ServiceError
from schemas.message import Answer, Done
from schemas.network import NetworkCreate
from schemas.node import Nudge
from tests.integration.brokering import (
    LIMIT_S,
    PARTITION_QUEUE,
    PLAN,
    Broker,
    Script,
    asking,
    consuming,
    provisioned,
    ready,
    release,
    until,
)

pytestmark = pytest.mark.services

CREATE = NetworkCreate.model_validate(
    {"request_id": "r1", "network": "prod", "subnets": [{"cidr": "10.20.0.0/24"}]}
)


async def test_many_callers_share_a_channel_and_each_gets_its_own_answer(broker: Broker) -> None:
    def act(delivery: Delivery) -> Refused | None:
        number = int(getattr(delivery.request, "container_id", "c0")[1:])
        return Refused(ServiceError(Code.EXHAUSTED, str(number))) if number % 2 else None

    async def ask(number: int) -> str:
        try:
            return type(await client.ask(release(f"c{number}"))).__name__
        except ServiceError as error:
            return error.message

    async with consuming(broker, Script(act)), asking(broker.node) as client:
        answers = await asyncio.gather(*(ask(number) for number in range(64)))
    assert answers == [str(number) if number % 2 else "Released" for number in range(64)]


async def test_that_the_broker_has_a_request_is_told_once_and_before_its_answer(broker: Broker) -> None:
    """Nobody serves it until it was told."""
    told: list[str] = []
    async with asking(broker.node) as client:
        asked = asyncio.create_task(client.ask(release(), timeout_s=60, taken=lambda: told.append("taken")))
        await until(lambda: bool(told))
        assert not asked.done()
        async with consuming(broker, Script()):
            assert await asked == Released()
    assert told == ["taken"]


async def test_a_broker_that_was_not_provisioned_says_so(broker: Broker) -> None:
    vhost = f"{broker.vhost} empty"
    told: list[str] = []
    provisioning.create_vhost(broker.management_url, vhost)
    try:
        url = provisioning.enroll_node(broker.management_url, "n1", vhost=vhost, password="secret").amqp_url
        async with asking(url) as client:
            started = time.monotonic()
            with pytest.raises(ServiceError, match="moorage broker provision") as caught:
                await client.ask(release(), timeout_s=10, taken=lambda: told.append("taken"))
    finally:
        provisioning.delete_vhost(broker.management_url, vhost)
    assert caught.value.code == Code.NOT_PROVISIONED
    assert told == []
    assert time.monotonic() - started < 5, "nobody waits for what will not come"


async def test_a_request_that_no_queue_takes_says_that_provisioning_is_missing(own_broker: Broker) -> None:
    broker = own_broker
    with Management(broker.management_url) as api:
        api.delete("queues", broker.vhost, PLAN.name)
    async with asking(broker.node) as client:
        with pytest.raises(ServiceError, match="moorage broker provision") as caught:
            await client.ask(release())
        assert caught.value.code == Code.NOT_PROVISIONED
        assert client.connected


async def test_without_an_allocator_the_caller_is_told_in_time(broker: Broker) -> None:
    async with asking(broker.node) as client:
        started = time.monotonic()
        with pytest.raises(ServiceError, match="is an allocator running") as caught:
            await client.ask(release(), timeout_s=0.5)
    assert caught.value.code == Code.TIMEOUT
    assert caught.value.retryable
    assert 0.4 < time.monotonic() - started < 2


async def test_a_broker_that_is_away_fails_no_start_and_is_named_without_its_password() -> None:
    async with rpc_client("amqp://node.n1:s3cret@127.0.0.1:1/%2F", name="test") as client:
        assert not client.connected
        started = time.monotonic()
        with pytest.raises(ServiceError, match=r"node\.n1:\*\*\*@127\.0\.0\.1:1") as caught:
            await client.ask(release(), timeout_s=0.7)
    assert caught.value.code == Code.UNAVAILABLE
    assert "s3cret" not in str(caught.value)
    assert 0.6 < time.monotonic() - started < 2


@pytest.mark.parametrize(("before", "after"), [(":secret@", ":wrong@"), ("/test", "/nowhere")])
async def test_a_refused_connection_is_told_at_once(broker: Broker, before: str, after: str) -> None:
    async with rpc_client(broker.node.replace(before, after), name="test") as client:
        started = time.monotonic()
        with pytest.raises(ServiceError, match="refused the connection") as caught:
            await client.ask(release(), timeout_s=LIMIT_S)
    assert caught.value.code == Code.NOT_PROVISIONED
    assert time.monotonic() - started < 5


async def test_those_who_wait_behind_what_nobody_answers_are_told_what_to_look_at(broker: Broker) -> None:
    """Sixteen are sent, and no more of their kind until they are answered."""
    async with asking(broker.node) as client:
        sent = [
            asyncio.create_task(client.ask(release(f"c{number}"), timeout_s=LIMIT_S)) for number in range(16)
        ]
        behind = asyncio.create_task(client.ask(release("c16"), timeout_s=0.7))
        with pytest.raises(ServiceError, match="those sent before it wait for their answers") as caught:
            await behind
        assert caught.value.code == Code.TIMEOUT
        async with consuming(broker, Script()):
            assert {type(answer).__name__ for answer in await asyncio.gather(*sent)} == {"Released"}
            assert type(await client.ask(release("c17"))).__name__ == "Released"


async def test_a_forbidden_request_is_refused_and_harms_no_other_on_the_channel(broker: Broker) -> None:
    async with consuming(broker, Script()), asking(broker.node) as client:
        asked = [client.ask(release(f"c{i}")) for i in range(20)]
        asked.insert(10, client.ask(CREATE))
        answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = answers.pop(10)
    assert isinstance(refused, ServiceError)
    assert refused.code == Code.SENDER_FORBIDDEN
    assert refused.fields["user"] == "node.n1"
    assert answers == [Released()] * 20


async def test_a_request_whose_answer_was_lost_is_sent_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of a cluster takes answers along when it dies; who waits may be connected to another."""
    monkeypatch.setattr(session, "POD_AGAIN_S", 0.2)
    asked: list[str] = []

    def act(delivery: Delivery) -> Deferred | None:
        asked.append(delivery.message_id or "")
        return DEFERRED if len(asked) < 3 else None  # acked, and never answered

    async with consuming(broker, Script(act)), asking(broker.node) as client:
        assert isinstance(await client.ask(release("c1")), Released)
    assert len(set(asked)) == 3, "each attempt has a message_id of its own"


async def test_requests_that_are_never_confirmed_do_not_hold_up_others(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that loses its leader forgets confirms; only so many may be out, so all would wait for ever."""
    monkeypatch.setattr(Sending, "confirmed", lambda *_, **__: None)
    async with consuming(broker, Script()), asking(broker.node) as client:
        for number in range(40):
            assert isinstance(await client.ask(release(f"c{number}")), Released)


async def test_a_request_that_the_queue_does_not_take_is_sent_again_until_it_does(own_broker: Broker) -> None:
    """A queue of a cluster takes nothing while it elects another leader."""
    with Management(own_broker.management_url) as api:
        api.delete("queues", own_broker.vhost, PARTITION_QUEUE)
        full = {"x-queue-type": "classic", "x-max-length": 0, "x-overflow": "reject-publish"}
        api.put("queues", own_broker.vhost, PARTITION_QUEUE, body={"durable": True, "arguments": full})
        key = {"routing_key": f"{PARTITION_QUEUE.rpartition('.')[2]}.#", "arguments": {}}
        api.post(
            "bindings", own_broker.vhost, "e", topology.REQUESTS_EXCHANGE, "q", PARTITION_QUEUE, body=key
        )
        async with asking(own_broker.node) as client:
            with pytest.raises(ServiceError, match=r"did not take address\.release within 0\.5 s") as caught:
                await client.ask(release("c0"), timeout_s=0.5)
            assert caught.value.code == Code.UNAVAILABLE
            asked = asyncio.create_task(client.ask(release("c1")))
            api.delete("queues", own_broker.vhost, PARTITION_QUEUE)
            provisioning.provision(own_broker.management_url, vhost=own_broker.vhost, settle_s=0)
            async with consuming(own_broker, Script()):
                assert isinstance(await asked, Released)


async def test_an_answer_that_comes_too_late_is_not_given_to_another(broker: Broker) -> None:
    async with asking(broker.node) as client:
        with pytest.raises(ServiceError):
            await client.ask(release("late"), timeout_s=0.3)

        def act(delivery: Delivery) -> Refused | None:
            late = delivery.request == release("late")
            return Refused(ServiceError(Code.EXHAUSTED, "of the late one")) if late else None

        script = Script(act)
        async with consuming(broker, script):
            assert await client.ask(release("next")) == Released()
        assert script.applied == ["late", "next"]


async def test_a_caller_that_leaves_is_forgotten_and_the_client_goes_on(broker: Broker) -> None:
    async with asking(broker.node) as client:
        asking_ = asyncio.create_task(client.ask(release("left"), timeout_s=30))
        await until(lambda: _holds(broker, 1))
        asking_.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking_
        async with consuming(broker, Script()):
            assert await client.ask(release("next")) == Released()


async def _holds(broker: Broker, count: int) -> bool:
    return await ready(broker, PLAN.name) == count


async def test_a_jobs_answer_reaches_the_caller_who_still_waits(broker: Broker) -> None:
    waiting: list[Delivery] = []

    def act(delivery: Delivery) -> object:
        waiting.append(delivery)
        return DEFERRED

    plan = QueuePlan(topology.allocator_queue(topology.partition("prod")), prefetch=8, batch=8)
    async with (
        consuming(broker, Script(act), plan),  # type: ignore[arg-type]
        asking(broker.producer) as client,
        poster(broker.allocator, name="test poster") as post,
    ):
        asked = asyncio.create_task(client.ask(CREATE))
        await until(lambda: bool(waiting))
        reply_to, correlation_id = str(waiting[0].reply_to), str(waiting[0].correlation_id)
        error = ServiceError(Code.ROLLOUT_FAILED, "n2 refused").body()
        await post.answer(reply_to, correlation_id, CREATE.NAME, Answer(error=error))
        with pytest.raises(ServiceError, match="n2 refused"):
            await asked
        # To a caller who has gone, and to a queue that is nobody's reply queue: no failure.
        await post.answer(reply_to, correlation_id, CREATE.NAME, Answer(error=error))
        await post.answer(topology.DEAD, correlation_id, CREATE.NAME, Answer(error=error))
    assert await ready(broker, topology.DEAD) == 0


async def test_a_nudge_reaches_its_node_and_one_without_a_queue_is_dropped(broker: Broker) -> None:
    inbox = nudges(broker.node, "n1", name="test inbox")
    async with asyncio.timeout(LIMIT_S), poster(broker.allocator, name="test poster") as post:
        assert await anext(inbox) is None, "first of all: sync, something may have been missed"
        await post.nudge("nobody", Nudge(network="prod", version=6))
        await post.nudge("n1", Nudge(network="prod", version=7))
        body = await anext(inbox)
    await inbox.aclose()
    assert body is not None
    assert Nudge.model_validate_json(body).version == 7


async def test_a_poster_without_a_broker_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.poster.POST_S", 0.5)
    async with poster("amqp://allocator:s3cret@127.0.0.1:1/%2F", name="test") as post:
        with pytest.raises(ServiceError) as caught:
            await post.nudge("n1", Done())
    assert caught.value.code == Code.UNAVAILABLE
    assert "s3cret" not in str(caught.value)


async def test_nothing_asked_is_lost_when_the_broker_is_killed_and_comes_back(
    services: LocalServices,
) -> None:
    """Requests in flight are asked again, the consumer and the inbox come back by themselves."""
    wanted = {f"c{i}" for i in range(200)}
    script = Script()
    with provisioned(services.management_url, services.amqp_url, settle_s=5) as broker:
        inbox = nudges(broker.node, "n1", name="test inbox")
        async with consuming(broker, script), asking(broker.node) as client:
            assert await anext(inbox) is None
            asked = [
                asyncio.create_task(_later(client.ask(release(f"c{i}"), timeout_s=60), i * 0.005))
                for i in range(200)
            ]
            await until(lambda: len(script.applied) > 20)
            await asyncio.to_thread(services.rabbitmq.kill)
            await until(lambda: not client.connected)
            await asyncio.to_thread(services.rabbitmq.start)
            answers = await asyncio.gather(*asked)
            assert answers == [Released()] * 200
            assert set(script.applied) == wanted
            assert await asyncio.wait_for(anext(inbox), LIMIT_S) is None, "sync again"
            await inbox.aclose()
        assert await ready(broker, PLAN.name) == 0
        assert await ready(broker, topology.DEAD) == 0


async def _later(work: object, delay_s: float) -> object:
    await asyncio.sleep(delay_s)
    return await work  # type: ignore[misc]


async def test_a_frozen_broker_is_told_from_an_allocator_that_is_away(
    broker: Broker, services: LocalServices
) -> None:
    """It takes the bytes and confirms nothing."""
    process = services.rabbitmq.pids[0]
    async with asking(broker.node) as client:
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(ServiceError, match="did not confirm") as caught:
                await client.ask(release(), timeout_s=0.5)
        finally:
            os.kill(process, signal.SIGCONT)
        assert caught.value.code == Code.UNAVAILABLE
        async with consuming(broker, Script()):
            assert await client.ask(release("next")) == Released()
