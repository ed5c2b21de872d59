"""When a message was sent: what its id tells, and what is made of senders whose clocks are wrong."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from broker import message_ids
from broker.message_ids import new_message_id, sent_at
from broker.sender_clocks import SenderClocks

NODE, PRODUCER = "node.n1", "producer.p"
HOUR = 3600.0
UUID4 = UUID("49de39b3-2a56-4ebb-a89d-0c12f538e627")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ids_are_uuids_of_version_8_and_no_two_are_alike_also_at_their_beginning():
    made = [new_message_id() for _ in range(1000)]
    assert len({each[:12] for each in made}) == 1000
    assert {(UUID(each).version, UUID(each).variant) for each in made} == {(8, "specified in RFC 4122")}


def test_an_id_tells_when_it_was_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(message_ids.time, "time_ns", lambda: 1_800_000_000_123_456_789)
    assert sent_at(new_message_id(), None) == 1_800_000_000.123


def test_an_id_of_version_7_tells_it_as_well():
    assert sent_at("01a318b9907b7" + "0" * 19, None) == 0x01A318B9907B / 1000


@pytest.mark.parametrize(
    "message_id", [None, "", "8", UUID4.hex, str(UUID4), "g" * 12 + "7" + "0" * 19, "0" * 12 + "8" + "g" * 19]
)
def test_other_ids_tell_nothing_and_the_timestamp_does(message_id: str | None):
    assert sent_at(message_id, None) is None
    assert (
        sent_at(message_id, datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize("wrong", [-HOUR, -1.0, 0.0, 1.0, HOUR])
def test_a_node_whose_clock_is_wrong_is_seen_through_by_its_heartbeats(wrong: float):
    clocks = SenderClocks()
    for number in range(5):
        clocks.heartbeat(NODE, 100.0 + number + wrong, 100.05 + number)
    assert clocks.sent(NODE, 200.0 + wrong, 203.0) == pytest.approx(200.05)


def test_a_heartbeat_that_was_late_does_not_count_when_others_were_not():
    clocks = SenderClocks()
    clocks.heartbeat(NODE, 100.0, 114.0)
    clocks.heartbeat(NODE, 110.0, 110.01)
    assert clocks.sent(NODE, 200.0, 203.0) == pytest.approx(200.01)


def test_nobody_sends_what_has_arrived_already():
    assert SenderClocks().sent(PRODUCER, 500.0, 203.0) == 203.0


def test_without_heartbeats_a_clock_is_taken_to_be_right():
    assert SenderClocks().sent(PRODUCER, 200.0, 203.0) == 200.0


def test_what_bears_no_time_came_at_once():
    assert SenderClocks().sent(NODE, None, 203.0) == 203.0


def test_a_clock_that_was_set_is_believed_after_a_while():
    clock = Clock()
    clocks = SenderClocks(clock)
    clocks.heartbeat(NODE, 100.0 + HOUR, 100.0)
    for clock.now in (700.0, 1400.0):
        clocks.heartbeat(NODE, clock.now, clock.now)
    assert clocks.sent(NODE, 2000.0, 2003.0) == pytest.approx(2000.0)


def test_the_senders_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("broker.sender_clocks._SENDERS", 2)
    clocks = SenderClocks()
    for user in ("a", "b", "c"):
        clocks.heartbeat(user, 0.0, HOUR)
    assert clocks.sent("a", 0.0, HOUR) == 0.0
    assert clocks.sent("c", 0.0, HOUR) == HOUR
