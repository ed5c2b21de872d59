"""A broker looked at for people: every user may, nothing is changed, and what is not as declared is found."""

import pytest

from broker import audit, inspection, topology
from broker.inspection import QueueDepth
from broker.management import Management
from schemas.errors import ServiceError
from tests.integration.brokering import PLAN, Broker, Script, consuming, until

pytestmark = pytest.mark.services

ABSENT = "moorage.allocator.9"


@pytest.mark.parametrize("user", ["node", "producer", "operator", "allocator"])
async def test_any_user_sees_depth_and_consumers(broker: Broker, user: str):
    seen = await inspection.depths(getattr(broker, user), [topology.DEAD, ABSENT, PLAN.name])
    assert seen[topology.DEAD] == seen[PLAN.name] == QueueDepth(0, 0)
    assert isinstance(seen[ABSENT], ServiceError)
    names = [exchange.name for exchange in topology.EXCHANGES]
    assert await inspection.missing_exchanges(getattr(broker, user), [*names, "moorage.tea"]) == [
        "moorage.tea"
    ]


async def test_a_consumer_is_seen(broker: Broker):
    async with consuming(broker, Script()) as task:
        while (await inspection.depths(broker.node, [PLAN.name]))[PLAN.name] != QueueDepth(0, 1):
            assert not task.done()


async def test_a_broker_that_refuses_or_is_not_there_is_said_at_once(broker: Broker):
    assert "***" in await inspection.log_in(broker.node)
    with pytest.raises(ServiceError, match="--rotate gives a new password") as caught:
        await inspection.log_in(broker.node.replace("secret", "wrong"))
    assert "wrong" not in str(caught.value)
    with pytest.raises(ServiceError, match="is it running there"):
        await inspection.log_in("amqp://node.n1:secret@127.0.0.1:1/%2F")


async def test_what_is_provisioned_and_enrolled_is_found_as_declared(own_broker: Broker):
    assert audit.topology_faults(own_broker.management_url, own_broker.vhost) == []
    enrolment = audit.enrolment(own_broker.management_url, own_broker.vhost)
    assert enrolment.users == {"allocator", "node.n1", "producer.test", "operator.test"}
    assert enrolment.faults == {}
    # RabbitMQ's management tells of an alarm for some seconds after it has ended: other tests cause some.
    await until(lambda: audit.alarms(own_broker.management_url) == [])


def test_what_was_changed_since_is_found(own_broker: Broker):
    with Management(own_broker.management_url) as api:
        api.delete("queues", own_broker.vhost, topology.HEARTBEATS)
        api.delete("exchanges", own_broker.vhost, topology.EVENTS_EXCHANGE)
        body = {"configure": ".*", "write": ".*", "read": ".*"}
        api.put("permissions", own_broker.vhost, "node.n1", body=body)
    assert audit.topology_faults(own_broker.management_url, own_broker.vhost) == [
        "there is no exchange moorage.events",
        "there is no queue moorage.heartbeats",
        "queue moorage.events.operator.test is not bound to moorage.events with events.#",
    ]
    assert set(audit.enrolment(own_broker.management_url, own_broker.vhost).faults) == {"node.n1"}
