"""The allocator is killed at each point of an ADD whose end nobody else knows of: one address, one answer."""

import pytest

from tests.acceptance.machines import until
from tests.chaos.commits import DONE_IN_SILENCE, CommitOf
from tests.chaos.proxy import Way, named
from tests.chaos.stage import Stage, address_of
from tests.chaos.truth import in_database
from tests.integration.sql_proxy import LOST_BEFORE

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

OWNER = "bank/api-0"


def test_an_allocator_killed_before_commit(stage: Stage):
    commit = stage.sql.judge = CommitOf(OWNER, LOST_BEFORE, stage.allocator.kill)
    pod = stage.pod(OWNER)
    coming = stage.adding(pod)
    assert commit.met.wait(20)
    stage.allocator.start()
    status, answer = coming.result(60)
    assert status == 0, answer
    stage.was_given_once(pod, address_of(answer))


def test_an_allocator_killed_after_commit_before_its_reply(stage: Stage):
    commit = stage.sql.judge = CommitOf(OWNER, DONE_IN_SILENCE)
    pod = stage.pod(OWNER)
    coming = stage.adding(pod)
    assert commit.met.wait(20)
    (written,) = until(lambda: in_database(stage)).values()
    stage.allocator.kill()
    assert not coming.done()
    stage.allocator.start()
    status, answer = coming.result(60)
    assert status == 0, answer
    assert written == {address_of(answer)}
    stage.was_given_once(pod, address_of(answer))


def test_an_allocator_killed_after_its_reply_before_its_ack(stage: Stage):
    """Its acks are held back on their way, and lost with it: RabbitMQ gives the request to the next one."""
    consuming = named("allocator")
    stage.to_broker["allocator"].hold(Way.UP, those=consuming)
    pod = stage.pod(OWNER)
    address = address_of(pod.add())
    stage.allocator.kill()
    stage.to_broker["allocator"].cut(consuming)
    stage.to_broker["allocator"].heal()
    stage.allocator.start()
    other = stage.pod("bank/api-1", "node-2")
    assert address_of(other.add()) != address
    stage.was_given_once(pod, address)
