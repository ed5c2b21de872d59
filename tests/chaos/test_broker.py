"""RabbitMQ fails an ADD or a DEL in every way: nobody waits for ever, and nothing is applied twice."""

import asyncio
import uuid

import pytest

from broker import provisioning, topology
from broker.management import Management
from schemas.address import AddressAllocate, AddressRelease, Allocated, Released
from schemas.message import Answer
from tests.acceptance.machines import until
from tests.chaos.commits import DONE_IN_SILENCE, CommitOf
from tests.chaos.proxy import Way, named
from tests.chaos.stage import Stage, address_of, code_of
from tests.chaos.truth import in_database, in_kernel
from tests.integration.brokering import Hand, hand, limit_disk

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

OWNER = "bank/api-0"
BACK_S = 30
"""Within what a consumer must be back, in seconds."""


def test_a_broker_restarted_in_mid_rpc(stage: Stage):
    """It dies when the address is written and nobody was told; whoever asks again gets the same one."""
    commit = stage.sql.judge = CommitOf("shop/web-0", DONE_IN_SILENCE)
    pod = stage.pod("shop/web-0")
    coming = stage.adding(pod)
    assert commit.met.wait(20)
    (written,) = until(lambda: in_database(stage)).values()
    stage.services.rabbitmq.kill()
    stage.services.rabbitmq.start()
    status, answer = coming.result(60)
    if status != 0:  # on a slow machine it took too long
        assert answer["code"] == 11
        until(lambda: pod.call("ADD")[0] == 0, 60)
    assert in_kernel(stage).popitem()[1] == written


def test_a_publisher_blocked_by_a_broker_alarm(stage: Stage):
    """ADD is told to try again, DEL is a success, and those who consume go on when it is over."""
    held = stage.pod("shop/web-0")
    held.add()
    before = {stage.allocator.pid, *(node.process.pid for node in stage.stack.nodes)}
    limit_disk(stage.services, low=True)
    try:
        pod = stage.pod(OWNER)
        assert code_of(pod.call("ADD")) == 11
        held.delete()
    finally:
        limit_disk(stage.services, low=False)
    until(lambda: pod.call("ADD")[0] == 0, 60)
    until(lambda: stage.events("shop/web-0") == ["address.attached", "address.waiting"], 60)
    assert before == {stage.allocator.pid, *(node.process.pid for node in stage.stack.nodes)}


def test_a_consumer_cancelled_by_the_server(stage: Stage):
    """Its queue is deleted under it, and is back a moment later: so is the consumer, by itself."""
    queues = [
        topology.allocator_queue(topology.partition("prod")),
        topology.HEARTBEATS,
        topology.QUERIES_QUEUE,
        topology.queue_of_node("node-1").name,
    ]
    with Management(stage.services.management_url) as api:
        for queue in queues:
            api.delete("queues", stage.broker.vhost, queue)
    url, vhost = stage.services.management_url, stage.broker.vhost
    provisioning.provision(url, vhost=vhost, settle_s=0)
    provisioning.enroll_node(url, "node-1", vhost=vhost, password="secret")
    until(lambda: all(asyncio.run(_consumers(stage, queue)) > 0 for queue in queues), BACK_S)
    pod = stage.pod(OWNER)
    stage.was_given_once(pod, address_of(pod.add()))
    stage.network("other", "10.78.0.0/24")


async def _consumers(stage: Stage, queue: str) -> int:
    async with hand(stage.broker.admin) as asking:
        found = await asking.channel.declare_queue(queue, passive=True)
        return int(found.declaration_result.consumer_count or 0)


def allocate(owner: str = OWNER, node: str = "n1") -> AddressAllocate:
    """A request of the node that has no worker here."""
    body = {"network": "prod", "owner": owner, "node": node, "ifname": "eth0", "attachment_id": uuid.uuid4()}
    return AddressAllocate.model_validate(body | {"container_id": uuid.uuid4().hex})


def release_of(request: AddressAllocate) -> AddressRelease:
    fields = {"network", "node", "container_id", "ifname", "attachment_id"}
    return AddressRelease.model_validate(request.model_dump(include=fields))


async def told(sender: Hand, request: AddressAllocate | AddressRelease) -> Answer:
    await sender.publish(request, answer_to=topology.REPLY_QUEUE)
    return await sender.answer()


async def test_a_duplicate_delivery(stage: Stage):
    """The ack is lost with the connection, so the request comes again: so does the same answer."""
    request, consuming = allocate(), named("allocator")
    async with hand(stage.broker.node) as sender:
        stage.to_broker["allocator"].hold(Way.UP, those=consuming)
        first = await told(sender, request)
        stage.to_broker["allocator"].cut(consuming)
        stage.to_broker["allocator"].heal()
        second = await sender.answer()
        assert first == second
        assert Allocated.model_validate(first.result).attachment_id == request.attachment_id
        released = Released.model_validate((await told(sender, release_of(request))).result)
    assert len(released.addresses) == 1
    assert await asyncio.to_thread(stage.events, OWNER) == ["address.attached", "address.freed"]


async def test_a_release_that_overtakes_its_allocate(stage: Stage):
    request = allocate()
    async with hand(stage.broker.node) as sender:
        released = await told(sender, release_of(request))
        assert released.error is None
        late = await told(sender, request)
        assert late.error is not None
        assert late.error.code == "attachment_released"
    assert await asyncio.to_thread(stage.attached) == []


def test_a_reply_after_the_callers_timeout(stage: Stage):
    """It comes when ADD has told the runtime to try again: its address is free by then, or soon."""
    stage.to_broker["node-1"].hold(Way.DOWN)
    pod = stage.pod(OWNER)
    coming = stage.adding(pod)
    until(lambda: in_database(stage))
    assert code_of(coming.result(60)) == 11
    stage.to_broker["node-1"].heal()
    until(lambda: stage.attached() == [])
    assert stage.events(OWNER) == ["address.attached", "address.freed"]
    until(lambda: pod.call("ADD")[0] == 0, 60)


def test_a_del_while_the_broker_is_away(stage: Stage):
    """It is a success at once, outlives the worker, and its release is applied when the broker is back."""
    pod, way = stage.pod("shop/web-0"), stage.to_broker["node-1"]
    pod.add()
    target, way.target = way.target, None
    way.cut()
    pod.delete()
    node = stage.node("node-1")
    node.process.kill()
    node.process.start()
    assert stage.events("shop/web-0") == ["address.attached"]
    way.target = target
    until(lambda: stage.events("shop/web-0") == ["address.attached", "address.waiting"], 60)
