"""A restore that nobody declared: the first node that was told more than the database knows shows it."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from allocator import restoring
from allocator.database import Database
from schemas.node import Heard, Heartbeat, NodeFence, NodeHeartbeat, NodeList, NodeRemove, NodeSync
from tests.integration.allocating import Asked, only, told_of
from tests.integration.test_allocator_restoring import Backup

pytestmark = pytest.mark.services

MINUTE = timedelta(minutes=1)


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod with a pinned pool, on two nodes."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    return made


def beat(asked: Asked, node: str = "n1", heard: Heard | None = None) -> Heartbeat:
    answer = asked.reply(NodeHeartbeat(node=node, session=asked.sessions[node], heard=heard))
    assert isinstance(answer, Heartbeat)
    return answer


def heard_by(answer: Heartbeat) -> Heard:
    assert answer.digest
    assert answer.epoch is not None
    return Heard(epoch=answer.epoch, at=answer.database_time)


def put_back(engine: Engine, by: timedelta = MINUTE) -> None:
    """As a backup of then would have it: what nodes said since is lost."""
    with engine.begin() as connection:
        statement = "UPDATE nodes SET last_seen = last_seen - INTERVAL :s SECOND"
        connection.execute(text(statement), {"s": by.total_seconds()})


def state(engine: Engine) -> restoring.State:
    return Database(engine).run(restoring.state)


def rolled_back(engine: Engine) -> list[str]:
    def events(connection: Connection) -> list[str]:
        found = connection.execute(text("SELECT node FROM history WHERE event = 'database.rolled_back'"))
        return list(found.scalars())

    return Database(engine).run(events)


def test_a_heartbeat_shows_it_and_the_allocator_pauses_in_a_new_epoch(asked: Asked, engine: Engine):
    heard = heard_by(beat(asked))
    put_back(engine)
    answer = beat(asked, heard=heard)
    assert (answer.digest, answer.epoch) == ("", heard.epoch + 1)  # the node has to sync
    found = state(engine)
    assert (found.paused, found.epoch, found.witness) == (True, heard.epoch + 1, "n1")
    assert found.unheard == ["n1", "n2"]
    assert asked.refusal(asked.ask("shop/web-0")).code == "paused"


def test_a_sync_shows_it_before_its_answer_opens_the_node_for_new_pods(asked: Asked, engine: Engine):
    heard = heard_by(beat(asked))
    put_back(engine)
    asked.reply(NodeSync(node="n1", session=asked.sessions["n1"], attachments=(), heard=heard))
    assert state(engine).paused
    assert state(engine).unheard == ["n2"]  # this one has just told what it has


def test_what_a_sync_told_is_evidence_as_well(asked: Asked, engine: Engine):
    """A node that has just come up has heard no heartbeat's answer yet."""
    page = asked.reply(NodeSync(node="n1", session=asked.sessions["n1"]))
    put_back(engine)
    beat(asked, heard=Heard(epoch=page.epoch, at=page.database_time))
    assert state(engine).witness == "n1"


def test_a_sync_of_a_fenced_session_is_evidence_of_nothing(asked: Asked, engine: Engine):
    """It does not bring the node's row up to date, which would look older and older."""
    session = asked.sessions["n1"]
    asked.reply(asked.make(NodeFence, node="n1", session=session, reason="off"))
    assert asked.reply(NodeSync(node="n1", session=session)).epoch is None


def test_what_nodes_have_is_adopted_then_and_pods_are_served_again(asked: Asked, engine: Engine):
    heard = {node: heard_by(beat(asked, node)) for node in ("n1", "n2")}
    backup = Backup(engine)
    lost = asked.attach("shop/web-0", "n1")
    backup.restore()
    put_back(engine)
    again = Asked(engine, nodes=[])
    again.sessions = asked.sessions
    beat(again, "n2", heard["n2"])
    detail = told_of(lost, "shop/web-0")
    request = {"node": "n1", "session": again.sessions["n1"], "attachments": [lost.attachment_id]}
    again.reply(NodeSync.model_validate(request | {"details": [detail], "heard": heard["n1"]}))
    again.reply(NodeSync(node="n2", session=again.sessions["n2"], attachments=(), heard=heard["n2"]))
    assert state(engine).unheard == []
    restoring.resume(engine)
    assert only(again.attach("shop/web-1", "n2")) != only(lost)
    assert rolled_back(engine) == ["n2"]  # said once


def test_a_node_that_comes_late_shows_nothing_new(asked: Asked, engine: Engine):
    heard = heard_by(beat(asked, "n2"))
    put_back(engine)
    restoring.declare_restored(engine)
    asked.reply(NodeSync(node="n1", session=asked.sessions["n1"], attachments=()))
    restoring.resume(engine)
    beat(asked, "n2", heard)
    assert not state(engine).paused
    assert rolled_back(engine) == []


def test_a_backup_from_before_the_last_restore_is_noticed_too(asked: Asked, engine: Engine):
    for _ in range(2):
        restoring.declare_restored(engine)
    asked.reply(NodeSync(node="n1", session=asked.sessions["n1"], attachments=()))
    heard = heard_by(beat(asked))
    restoring.resume(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE epochs SET epoch = 1"))
    beat(asked, heard=heard)
    assert (state(engine).paused, state(engine).epoch) == (True, heard.epoch + 1)


def test_a_declared_restore_is_not_laid_to_a_node(asked: Asked, engine: Engine):
    heard = heard_by(beat(asked))
    put_back(engine)
    beat(asked, heard=heard)
    restoring.declare_restored(engine)  # by somebody who remembers it now
    assert state(engine).witness is None
    assert state(engine).paused


def test_nodes_that_went_through_what_they_may_go_through_show_nothing(asked: Asked, engine: Engine):
    heard = heard_by(beat(asked))
    put_back(engine, timedelta(seconds=5))  # transactions that overtook one another
    beat(asked, heard=heard)
    session = asked.sessions["n1"]
    asked.reply(asked.make(NodeFence, node="n1", session=session, reason="off"))
    answer = beat(asked, heard=heard)
    assert (answer.fenced, answer.digest) == (True, "")
    asked.reply(asked.make(NodeRemove, node="n1"))
    beat(asked, heard=heard)
    asked.reply(NodeSync(node="n1", session=session, heard=heard))
    assert {node.node for node in asked.reply(NodeList()).nodes} == {"n1", "n2"}
    beat(asked, heard=heard)
    assert not state(engine).paused
    assert rolled_back(engine) == []


def test_many_witnesses_at_once_are_one_restore(asked: Asked, engine: Engine):
    heard = {node: heard_by(beat(asked, node)) for node in ("n1", "n2")}
    put_back(engine)
    beats = [
        NodeHeartbeat(node=node, session=asked.sessions[node], heard=said) for node, said in heard.items()
    ]
    asked.together(*beats)
    for node, said in heard.items():
        beat(asked, node, said)
    assert state(engine).epoch == heard["n1"].epoch + 1
    assert len(rolled_back(engine)) == 1
