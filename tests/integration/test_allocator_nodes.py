"""Nodes on the real database: heartbeats, lost and back again, fenced, removed."""

from datetime import datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from allocator.timers import LOST_AFTER_S, Timers
from schemas.history import HistoryList, HistoryRow
from schemas.network import NetworkCreate
from schemas.node import (
    DesiredPage,
    Heartbeat,
    NodeFence,
    NodeFenced,
    NodeHeartbeat,
    NodeList,
    NodeRemove,
    NodeSync,
    attachments_digest,
)
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Nodes n1 and n2, network prod with a pinned pool, and network lab."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.network("lab", "10.2.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    return made


def beat(asked: Asked, node: str = "n1", session: UUID | None = None) -> Heartbeat:
    answer = asked.reply(NodeHeartbeat(node=node, session=session or asked.sessions[node]))
    assert isinstance(answer, Heartbeat)
    return answer


def sync(asked: Asked, node: str, session: UUID, *attachments: UUID) -> DesiredPage:
    answer = asked.reply(NodeSync(node=node, session=session, attachments=attachments))
    assert isinstance(answer, DesiredPage)
    return answer


def fence(asked: Asked, node: str = "n1", session: UUID | None = None, **fields: object) -> NodeFenced:
    body = {"node": node, "session": session or asked.sessions[node], "reason": "power is off"}
    answer = asked.reply(asked.make(NodeFence, **body | fields))
    assert isinstance(answer, NodeFenced)
    return answer


def fall_silent(asked: Asked, engine: Engine, *names: str) -> None:
    """Let these nodes be marked lost."""
    with engine.begin() as connection:
        for name in names:
            statement = "UPDATE nodes SET last_seen = last_seen - INTERVAL 1 HOUR WHERE name = :name"
            connection.execute(text(statement), {"name": name})
    now = [0.0]
    timers = Timers(asked.database, asked.committed, clock=lambda: now[0])
    now[0] += LOST_AFTER_S + 1
    timers.tick()


def states(asked: Asked) -> dict[str, str]:
    return {node.node: node.state for node in asked.reply(NodeList()).nodes}


def told(asked: Asked, node: str = "n1") -> list[HistoryRow]:
    """What the history knows of a node itself."""
    return list(asked.reply(HistoryList(network="_system", node=node)).rows)


def held(asked: Asked) -> dict[str, tuple[str, str | None]]:
    asked.check_used()
    return {str(row.address): (row.state, row.node) for row in asked.addresses()}


# Heartbeats.


def test_a_heartbeat_of_an_unknown_node_or_session_tells_it_to_sync(asked: Asked):
    for node, session in (("n1", uuid4()), ("n9", uuid4())):
        answer = beat(asked, node, session)
        assert (answer.digest, answer.attachments, answer.fenced) == ("", "", False)
    assert "n9" not in states(asked)


def test_a_heartbeat_tells_the_digest_of_what_is_attached_on_the_node(asked: Asked):
    assert beat(asked).attachments == attachments_digest([])
    one = asked.attach("shop/web-0", "n1")
    other = asked.attach("bank/api-0", "n1", network="lab")
    asked.attach("shop/web-1", "n2")
    assert beat(asked).attachments == attachments_digest([one.attachment_id, other.attachment_id])
    asked.release(one.attachment_id)
    assert beat(asked).attachments == attachments_digest([other.attachment_id])


def test_an_attachment_with_two_addresses_counts_once(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/24", "fd00:1::/64")
    both = asked.attach("bank/api-0", "n1")
    assert beat(asked).attachments == attachments_digest([both.attachment_id])
    assert [node.attached for node in asked.reply(NodeList()).nodes] == [1, 0]


def test_heartbeats_of_one_batch_are_answered_each_for_its_node(asked: Asked):
    asked.attach("shop/web-0", "n1")
    beats = [NodeHeartbeat(node=node, session=asked.sessions[node]) for node in ("n2", "n1", "n2")]
    answers = [
        outcome.message for outcome in asked.together(*beats, NodeHeartbeat(node="n9", session=uuid4()))
    ]
    assert [answer.attachments == attachments_digest([]) for answer in answers] == [True, False, True, False]
    assert answers[3].digest == ""


def test_a_lost_node_is_ready_again_with_its_next_heartbeat_and_history_tells_both(
    asked: Asked, engine: Engine
):
    kept = asked.attach("shop/web-0", "n1")
    fall_silent(asked, engine, "n1")
    assert states(asked) == {"n1": "lost", "n2": "ready"}
    assert held(asked) == {only(kept): ("attached", "n1")}
    assert asked.refusal(asked.ask("shop/web-0", "n2")).code == "owner_attached_elsewhere"
    beat(asked)
    assert states(asked) == {"n1": "ready", "n2": "ready"}
    beat(asked)
    events = [(row.event, row.user_id) for row in told(asked)]
    assert events == [
        ("node.ready", "operator.test"),
        ("node.lost", "allocator"),
        ("node.ready", "node.n1"),
    ]


def test_a_sync_counts_as_a_sign_of_life_unless_one_was_heard_just_now(asked: Asked, engine: Engine):
    def last_seen() -> datetime:
        return next(node.last_seen for node in asked.reply(NodeList()).nodes if node.node == "n1")

    beat(asked)
    heard = last_seen()
    sync(asked, "n1", asked.sessions["n1"])
    assert last_seen() == heard
    with engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET last_seen = last_seen - INTERVAL 11 SECOND"))
    sync(asked, "n1", asked.sessions["n1"])
    assert last_seen() > heard


def test_a_network_does_not_wait_for_nodes_that_are_lost_or_fenced(asked: Asked, engine: Engine):
    fall_silent(asked, engine, "n1")
    fence(asked, "n2")
    asked.deferred(asked.make(NetworkCreate, network="new", subnets=[{"cidr": "10.4.0.0/24"}]))
    asked.attach("bank/api-0", "n3", network="new")


# Fence.


def test_a_fenced_nodes_owners_move_at_once_and_history_says_why(asked: Asked):
    pinned, shared = asked.attach("shop/web-0", "n1"), asked.attach("bank/api-0", "n1")
    far = asked.attach("bank/api-1", "n1", network="lab")
    asked.attach("shop/web-1", "n2")
    done = fence(asked, actor="anna")
    assert (done.fenced, done.released) == (True, 3)
    assert held(asked) == {
        only(shared): ("free", None),
        only(pinned): ("waiting", None),
        "10.1.0.11": ("attached", "n2"),
    }
    assert only(asked.attach("shop/web-0", "n2")) == only(pinned)
    row = asked.history(attachment_id=pinned.attachment_id)[-1]
    assert (row.event, row.node, row.actor) == ("address.waiting", "n1", "anna")
    assert row.details == {"fenced": True, "reason": "power is off"}
    (gone,) = asked.reply(HistoryList(network="lab", attachment_id=far.attachment_id)).rows[1:]
    assert gone.event == "address.freed"
    last = told(asked)[-1]
    assert (last.event, last.actor, last.details["released"]) == ("node.fenced", "anna", 3)
    assert last.details["session"] == str(asked.sessions["n1"])


def test_a_fence_of_both_families_counts_each_address(engine: Engine):
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/24", "fd00:1::/64")
    asked.attach("bank/api-0", "n1")
    assert fence(asked).released == 2
    assert {state for state, _ in held(asked).values()} == {"free"}


def test_a_fence_of_an_older_session_leaves_the_node_alone(asked: Asked):
    old, new = asked.sessions["n1"], uuid4()
    sync(asked, "n1", new)
    kept = asked.attach("shop/web-0", "n1")
    done = fence(asked, "n1", old)
    assert (done.fenced, done.session, done.released) == (False, new, 0)
    assert (states(asked)["n1"], held(asked)) == ("ready", {only(kept): ("attached", "n1")})
    assert [row.event for row in told(asked)] == ["node.ready", "node.ready"]


def test_a_fence_that_comes_again_gets_the_same_answer_and_frees_nothing_new(asked: Asked):
    asked.attach("shop/web-0", "n1")
    request = asked.make(NodeFence, node="n1", session=asked.sessions["n1"], reason="off")
    first = asked.reply(request)
    asked.attach("shop/web-0", "n2")
    session = uuid4()
    sync(asked, "n1", session)
    kept = asked.attach("shop/web-1", "n1")
    assert asked.reply(request) == first
    assert fence(asked, "n1", asked.sessions["n1"]).fenced is False
    assert held(asked)[only(kept)] == ("attached", "n1")


def test_a_second_fence_of_the_same_session_also_takes_what_came_after_the_first(asked: Asked):
    fence(asked)
    asked.attach("shop/web-0", "n1")  # a request that was on its way, or a node that is still powered
    assert fence(asked).released == 1
    assert held(asked) == {"10.1.0.10": ("waiting", None)}


def test_an_unknown_node_cannot_be_fenced(asked: Asked):
    assert asked.refusal(asked.make(NodeFence, node="n9", session=uuid4(), reason="x")).code == "node_unknown"


def test_a_fenced_session_is_told_so_and_counts_as_no_sign_of_life(asked: Asked):
    fence(asked)
    answer = beat(asked)
    assert (answer.fenced, answer.digest, answer.attachments) == (True, "", "")
    assert states(asked)["n1"] == "fenced"
    assert beat(asked, "n1", uuid4()).fenced is False


def test_a_node_that_comes_back_is_told_that_what_it_had_is_stale(asked: Asked):
    moved, away = asked.attach("shop/web-0", "n1"), asked.attach("bank/api-0", "n1")
    fence(asked)
    asked.attach("shop/web-0", "n2")
    new = uuid4()
    page = sync(asked, "n1", new, moved.attachment_id, away.attachment_id)
    assert set(page.stale) == {moved.attachment_id, away.attachment_id}
    assert page.unknown == ()
    assert states(asked)["n1"] == "ready"
    assert beat(asked, "n1", new).attachments == attachments_digest([])
    assert only(asked.attach("shop/web-1", "n1")) == "10.1.0.11"


def test_the_fenced_session_itself_stays_fenced_whatever_it_asks(asked: Asked):
    kept = asked.attach("shop/web-0", "n1")
    fence(asked)
    stranger = uuid4()
    page = sync(asked, "n1", asked.sessions["n1"], kept.attachment_id, stranger)
    assert set(page.stale) == {kept.attachment_id, stranger}
    assert states(asked)["n1"] == "fenced"


def test_the_late_release_of_a_fenced_node_harms_nobody(asked: Asked):
    old = asked.attach("shop/web-0", "n1")
    fence(asked)
    new = asked.attach("shop/web-0", "n2")
    assert asked.release(old.attachment_id, "n1") == []
    assert held(asked) == {only(new): ("attached", "n2")}


# Remove.


def test_a_ready_node_is_not_removed(asked: Asked):
    assert asked.refusal(asked.make(NodeRemove, node="n1")).code == "node_in_use"
    assert states(asked) == {"n1": "ready", "n2": "ready"}


def test_a_lost_node_that_still_holds_addresses_is_fenced_before_it_is_removed(asked: Asked, engine: Engine):
    asked.attach("shop/web-0", "n1")
    fall_silent(asked, engine, "n1")
    error = asked.refusal(asked.make(NodeRemove, node="n1"))
    assert (error.code, error.fields["attached"]) == ("node_in_use", 1)
    assert "shop/web-0" in error.message
    fence(asked)
    asked.reply(asked.make(NodeRemove, node="n1"))
    assert states(asked) == {"n2": "ready"}
    assert told(asked)[-1].event == "node.removed"
    assert asked.refusal(asked.make(NodeRemove, node="n1")).code == "node_unknown"
    assert asked.refusal(asked.make(NodeFence, node="n1", session=uuid4(), reason="x")).code == "node_unknown"


def test_a_removed_node_may_come_back_and_what_it_had_is_stale(asked: Asked, engine: Engine):
    kept = asked.attach("shop/web-0", "n1")
    fence(asked)
    asked.reply(asked.make(NodeRemove, node="n1"))
    assert beat(asked).digest == ""
    page = sync(asked, "n1", asked.sessions["n1"], kept.attachment_id)
    assert page.stale == (kept.attachment_id,)
    assert states(asked)["n1"] == "ready"


def test_a_removal_that_comes_twice_is_one(asked: Asked):
    fence(asked)
    request = asked.make(NodeRemove, node="n1")
    assert asked.reply(request) == asked.reply(request)
    assert [row.event for row in told(asked)].count("node.removed") == 1
