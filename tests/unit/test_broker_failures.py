"""The failure table, row by row, and the headers of a dead letter."""

from datetime import UTC, datetime
from typing import Any

import pytest

from broker.connection import masked, parse_url
from broker.consumer import DEFERRED, Dropped, Refused, Reply, settle
from broker.dead_letters.burial import dead_letter
from broker.frames import Arrived
from broker.outcome import Broken, Failed, Verdict
from schemas.address import Released
from schemas.errors import Code, ServiceError

NO = ServiceError(Code.EXHAUSTED, "no address left")
BROKEN = ServiceError(Code.UNREADABLE, "no JSON")
FAILED = ServiceError(Code.INTERNAL, "failed")
ANSWER = Released()


@pytest.mark.parametrize(
    ("verdict", "awaited", "answer", "death"),
    [
        (Broken(BROKEN), True, BROKEN, BROKEN),
        (Broken(BROKEN), False, None, BROKEN),
        (Refused(NO), True, NO, None),
        (Refused(NO), False, None, NO),
        (Failed(FAILED), True, FAILED, FAILED),
        (Failed(FAILED), False, None, FAILED),
        (Reply(ANSWER), True, ANSWER, None),
        (Reply(ANSWER), False, None, None),
        (DEFERRED, True, None, None),
        (DEFERRED, False, None, None),
        (Dropped("late"), True, None, None),
        (Dropped("late"), False, None, None),
    ],
)
def test_each_verdict_is_settled_as_the_table_says(
    verdict: Verdict, awaited: bool, answer: object, death: object
) -> None:
    settled = settle(verdict, awaited=awaited, dead_letters=True)
    assert (settled.answer, settled.death) == (answer, death)


@pytest.mark.parametrize("verdict", [Broken(BROKEN), Refused(NO), Failed(FAILED)])
@pytest.mark.parametrize("awaited", [True, False])
def test_a_query_is_never_a_dead_letter(verdict: Verdict, awaited: bool) -> None:
    settled = settle(verdict, awaited=awaited, dead_letters=False)
    assert settled.death is None
    assert (settled.answer is not None) == awaited


def letter_of(**parts: Any) -> Any:
    usual: dict[str, Any] = {
        "body": b"\xff" * 70_000,
        "user_id": "node.n1",
        "routing_key": "0.address.release",
        "reply_to": "somewhere",
        "type": "address.release",
        "message_id": "m1",
        "correlation_id": "c1",
    }
    return dead_letter(Arrived(**(usual | parts)), NO)


def test_a_dead_letter_tells_its_story_and_keeps_its_body() -> None:
    before = datetime.now(UTC)
    letter = letter_of(headers={"schema_version": 1})
    assert letter.body == b"\xff" * 70_000
    first = datetime.fromisoformat(letter.headers.pop("x-moorage-first-death"))
    assert abs((first - before).total_seconds()) < 5
    assert letter.headers.pop("x-moorage-last-death") == first.isoformat(timespec="milliseconds")
    assert letter.headers == {
        "x-moorage-reason": "no address left",
        "x-moorage-code": "exhausted",
        "x-moorage-sender": "node.n1",
        "x-moorage-routing-key": "0.address.release",
        "x-moorage-deaths": 1,
        "schema_version": 1,
    }
    assert letter.user_id is None, "the broker refuses a foreign user"
    assert letter.reply_to is None, "nobody waits when it is replayed"


REPLAYED = {
    "x-moorage-deaths": 2,
    "x-moorage-first-death": "2026-01-02T03:04:05Z",
    "x-moorage-sender": "node.n1",
    "x-moorage-replay": "run 7",
}


def test_a_second_death_keeps_the_time_of_the_first_and_counts_on() -> None:
    headers = letter_of(user_id="operator.ann", headers=REPLAYED).headers
    assert headers["x-moorage-deaths"] == 3
    assert headers["x-moorage-first-death"] == "2026-01-02T03:04:05Z"
    assert headers["x-moorage-last-death"] > "2026-01-02T03:04:05Z"
    assert headers["x-moorage-sender"] == "node.n1", "not the operator, who only replayed it"
    assert headers["x-moorage-replay"] == "run 7"


@pytest.mark.parametrize(
    "forged",
    [
        {"x-moorage-deaths": "many", "x-moorage-first-death": 7},
        {"x-moorage-deaths": -5, "x-moorage-first-death": "x" * 5000},
        {"x-moorage-deaths": 2**62, "x-moorage-sender": "operator.root"},
        REPLAYED,
        {"x-death": [{"count": 99}], "x-big": "x" * 120_000},
    ],
)
def test_headers_that_a_sender_made_up_are_not_believed(forged: dict[str, Any]) -> None:
    headers = letter_of(headers=forged).headers
    assert headers["x-moorage-deaths"] == 1
    assert headers["x-moorage-sender"] == "node.n1"
    assert len(headers["x-moorage-first-death"]) < 40
    assert "x-moorage-replay" not in headers
    assert "x-death" not in headers
    assert "x-big" not in headers


def test_a_password_is_never_shown() -> None:
    shown = masked("amqp://node.n1:s3cret@broker:5672/%2F?name=x")
    assert "s3cret" not in shown
    assert "node.n1" in shown
    assert "broker:5672" in shown


@pytest.mark.parametrize(
    "url", ["", "broker:5672", "http://u:s3cret@h/", "amqp://h/", "amqp://u:s3cret@h:port/", "amqp://u:p@/"]
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_url(url)
    assert caught.value.code == Code.NOT_PROVISIONED
    assert "s3cret" not in str(caught.value)
