"""What a replay would do, asked of an allocator on the real database; and what is written down."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from broker.outcome import Reply
from schemas.address import AddressAllocate, AddressRelease
from schemas.dead import AuditedLetter, AuditRecord, ReplayPreview, ReplayPreviewed
from schemas.errors import Code
from schemas.fields import SYSTEM_NETWORK
from schemas.history import HistoryList
from schemas.message import MAX_BODY_BYTES, Request
from schemas.node import NodeFence, NodeSync
from schemas.pool import PoolCreate, PoolDelete
from tests.integration.allocating import Asked

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod with a pinned pool."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.11", owners=["shop/web-*"])
    return made


def foresee(asked: Asked, what: Request, sender: str = "node.n1", **fields: Any) -> ReplayPreviewed:
    body = {"request": what.NAME, "sender": sender, "body": what.model_dump_json(exclude_none=True)}
    answer = asked.reply(ReplayPreview.model_validate({**body, "version": what.VERSION, **fields}))
    assert isinstance(answer, ReplayPreviewed)
    return answer


def everything(asked: Asked) -> tuple[object, ...]:
    """All that a preview must leave alone."""
    rows = [(str(row.address), row.state, row.owner, row.attachment_id) for row in asked.addresses()]
    history = [(row.seq, row.event) for row in asked.history()]
    system = asked.reply(HistoryList(network=SYSTEM_NETWORK)).rows
    return rows, history, system, asked.check_used()


def released(attachment_id: UUID) -> AddressRelease:
    return AddressRelease(
        network="prod", node="n1", container_id="c1", ifname="eth0", attachment_id=attachment_id
    )


def test_what_would_be_applied_is_said_and_taken_back(asked: Asked) -> None:
    attachment = asked.attach("shop/web-0").attachment_id
    before = everything(asked)
    assert foresee(asked, released(attachment)).prospect == "apply"
    assert foresee(asked, asked.ask("shop/web-1")).prospect == "apply"
    assert foresee(
        asked, asked.make(PoolCreate, pool="db", policy="pinned", size=2), "producer.a"
    ).prospect == ("apply")
    assert foresee(asked, fence(asked), "operator.a").prospect == "apply"
    assert everything(asked) == before
    assert str(asked.attach("shop/web-1").addresses[0].address) == "10.1.0.11", "nothing of it is remembered"


def fence(asked: Asked) -> NodeFence:
    return NodeFence(request_id="f", node="n1", session=asked.sessions["n1"], reason="off")


def test_what_was_applied_before_is_a_no_op(asked: Asked) -> None:
    ask = asked.ask("shop/web-0")
    attached = asked.reply(ask)
    assert foresee(asked, ask).prospect == "no-op"
    release = released(attached.attachment_id)
    asked.reply(release)
    assert foresee(asked, release).prospect == "no-op"
    never_seen = released(uuid4())
    assert foresee(asked, never_seen).prospect == "apply", (
        "history notes its end, so that no allocate follows"
    )
    asked.reply(never_seen)
    assert foresee(asked, never_seen).prospect == "no-op"


def test_an_old_administrative_request_is_a_no_op_whatever_happened_since(asked: Asked) -> None:
    made = asked.make(PoolCreate, pool="db", policy="pinned", size=2)
    asked.reply(made)
    asked.reply(asked.make(PoolDelete, pool="db"))
    assert foresee(asked, made, "producer.a").prospect == "no-op"
    before = everything(asked)
    asked.reply(made)
    assert everything(asked) == before, "and so is its replay"


def test_what_comes_too_late_is_stale(asked: Asked) -> None:
    late = asked.ask("shop/web-0", deadline="2020-01-01T00:00:00Z")
    seen = foresee(asked, late)
    assert seen.prospect == "stale"
    assert "deadline" in (seen.reason or "")


def test_an_allocate_of_a_container_that_was_released_since_attaches_nobody(asked: Asked) -> None:
    ask = asked.ask("shop/web-0")
    asked.reply(ask)
    asked.reply(released(ask.attachment_id))
    seen = foresee(asked, ask)
    assert (seen.prospect, seen.code) == ("failing", Code.ATTACHMENT_RELEASED)


def test_what_would_fail_again_says_why(asked: Asked) -> None:
    seen = foresee(asked, asked.ask("shop/web-0", pool="nothing"))
    assert (seen.prospect, seen.code) == ("failing", Code.POOL_UNKNOWN)
    assert "nothing" in (seen.reason or "")


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"request": "address.explode"}, Code.UNKNOWN_REQUEST),
        ({"request": "node.list"}, Code.UNKNOWN_REQUEST),
        ({"version": 7}, Code.UNSUPPORTED_VERSION),
        ({"version": 0}, Code.UNSUPPORTED_VERSION),
        ({"body": "{"}, Code.INVALID_REQUEST),
        ({"body": json.dumps({"network": "prod", "extra": 1})}, Code.INVALID_REQUEST),
        ({"sender": "node.n2"}, Code.SENDER_FORBIDDEN),
        ({"sender": "producer.a"}, Code.SENDER_FORBIDDEN),
        ({"sender": ""}, Code.SENDER_FORBIDDEN),
    ],
)
def test_what_is_no_request_of_that_sender_fails(asked: Asked, parts: dict[str, Any], code: str) -> None:
    seen = foresee(asked, asked.ask("shop/web-0"), **parts)
    assert (seen.prospect, seen.code) == ("failing", code)


def test_what_a_replay_cannot_carry_is_said(asked: Asked) -> None:
    sync = NodeSync(node="n1", session=asked.sessions["n1"])
    assert foresee(asked, sync).prospect in {"apply", "no-op"}, "the console knows who may not replay it"


def audit(asked: Asked, request_id: str = "a1", **fields: Any) -> AuditRecord:
    letter = AuditedLetter(id="m1", request="address.release", network="prod", sender="node.n1", deaths=2)
    body = {"request_id": request_id, "actor": "ann", "event": "dead.discarded", "letters": [letter]}
    return AuditRecord.model_validate({**body, "details": {"reason": "the node is gone"}, **fields})


def test_what_operators_do_with_letters_is_a_row_of_history_once(asked: Asked) -> None:
    for _ in range(2):
        assert isinstance(asked.send(audit(asked), "operator.ann"), Reply)
    rows = [row for row in asked.reply(HistoryList(network=SYSTEM_NETWORK)).rows if row.event[:4] == "dead"]
    (row,) = rows
    assert (row.event, row.user_id, row.actor) == ("dead.discarded", "operator.ann", "ann")
    assert row.details["reason"] == "the node is gone"
    assert row.details["letters"] == [
        {"id": "m1", "request": "address.release", "network": "prod", "sender": "node.n1", "deaths": 2}
    ]


def test_the_largest_audit_is_still_a_message(asked: Asked) -> None:
    letter = AuditedLetter(
        id="x" * 255, request="r" * 64, network="n" * 63, sender="s" * 255, code="c" * 64, deaths=9
    )
    assert len(audit(asked, letters=[letter] * 50).model_dump_json()) < MAX_BODY_BYTES


def test_allocate_of_a_dead_letter_is_a_request_like_any_other(asked: Asked) -> None:
    """The body in the letter is what the node sent, whatever fields it left out."""
    ask = asked.ask("shop/web-0")
    lean = AddressAllocate.read(ask.model_dump_json(exclude_none=True, exclude_defaults=True).encode())
    assert foresee(asked, lean).prospect == "apply"
