"""Publishing with confirms: the frames, held to what pamqp says of them, and what becomes of each message."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from broker.frames import Arrived, Outgoing, send
from broker.sending import NotTaken, Sending, Unrouted
from broker.wire import Tap

CHANNEL = 7
TEXT = st.text(max_size=60)


def outgoing(**changed: Any) -> Outgoing:
    given: dict[str, Any] = {
        "body": b"{}",
        "content_type": "application/json",
        "headers": {"schema_version": 1},
        "correlation_id": "c1",
        "reply_to": "amq.rabbitmq.reply-to",
        "message_id": "m1",
        "type": "address.allocate",
        "user_id": "node.n1",
    }
    return Outgoing(**(given | changed))


def unmarshalled(data: bytes) -> Iterator[Any]:
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        assert channel == CHANNEL
        yield frame
        data = data[size:]


@settings(max_examples=30)
@given(TEXT, TEXT, st.binary(max_size=500), TEXT, st.none() | TEXT, TEXT, st.integers(20, 200))
def test_what_is_sent_reads_as_it_was_meant(
    exchange: str, key: str, body: bytes, text: str, reply_to: str | None, user: str, frame_max: int
) -> None:
    message = outgoing(body=body, correlation_id=text, message_id=text, reply_to=reply_to, user_id=user)
    method, header, *pieces = unmarshalled(send(CHANNEL, exchange, key, message, frame_max=frame_max))
    assert (method.exchange, method.routing_key, method.mandatory, method.immediate) == (
        exchange,
        key,
        True,
        False,
    )
    found = header.properties
    assert (found.content_type, found.delivery_mode, found.headers) == (
        "application/json",
        2,
        {"schema_version": 1},
    )
    assert (found.correlation_id or "", found.message_id or "", found.user_id or "") == (text, text, user)
    assert (found.reply_to or "", found.message_type) == (reply_to or "", "address.allocate")
    assert b"".join(piece.value for piece in pieces) == body


class Written:
    """A wire that keeps what is written."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.data.append(data)


class Told(list[str]):
    """What was told of each message, in that order."""

    def of(self, name: str) -> Any:
        return lambda fate: self.append(f"{name} {type(fate).__name__ if fate else 'taken'}")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def sending(told: Told) -> Sending:
    made = Sending(Written(), CHANNEL, 4096)  # type: ignore[arg-type]
    for number in (1, 2, 3, 4):
        made.send("x", "key", outgoing(message_id=f"m{number}"), told.of(f"m{number}"))
    return made


def test_each_is_told_once_and_by_its_own_number(sending: Sending, told: Told) -> None:
    sending.confirmed(2, multiple=False, taken=True)
    sending.confirmed(3, multiple=True, taken=True)
    sending.confirmed(3, multiple=False, taken=True)
    assert told == ["m2 taken", "m1 taken", "m3 taken"]
    sending.confirmed(9, multiple=True, taken=True)
    assert told[3:] == ["m4 taken"]


def test_one_that_came_back_is_not_taken_for_delivered(sending: Sending, told: Told) -> None:
    sending.returned("m2")
    sending.returned(None)
    sending.confirmed(4, multiple=True, taken=True)
    assert told == ["m1 taken", f"m2 {Unrouted.__name__}", "m3 taken", "m4 taken"]


def test_one_that_is_refused_says_so(sending: Sending, told: Told) -> None:
    sending.confirmed(1, multiple=False, taken=False)
    assert told == [f"m1 {NotTaken.__name__}"]


class Fates(list[Any]):
    """What the wire says."""

    def returned(self, message_id: str | None) -> None:
        self.append(("returned", message_id))

    def confirmed(self, tag: int, *, multiple: bool, taken: bool) -> None:
        self.append((tag, multiple, taken))


def test_returns_and_confirms_are_taken_off_the_wire_where_they_are_ours() -> None:
    properties = commands.Basic.Properties(message_id="m1", headers={"a": 1}, user_id="u")
    frames = [
        commands.Basic.Return(312, "NO_ROUTE", "x", "key"),
        ContentHeader(0, 4, properties),
        ContentBody(b"body"),
        commands.Basic.Ack(5, multiple=True),
        commands.Basic.Nack(6, multiple=False),
        commands.Channel.FlowOk(active=True),
    ]
    data = b"".join(pamqp.frame.marshal(frame, CHANNEL) for frame in frames)

    async def through(fates: Fates | None) -> bytes:
        taken: list[Arrived] = []
        tap = Tap(limit=1 << 16, loop=asyncio.get_running_loop())
        tap.divert(CHANNEL, taken.append, fates)
        for at in range(0, len(data), 7):
            tap.feed_data(data[at : at + 7])
        tap.feed_eof()
        assert taken == []
        return await tap.read()

    fates = Fates()
    assert asyncio.run(through(fates)) == pamqp.frame.marshal(frames[-1], CHANNEL)
    assert fates == [("returned", "m1"), (5, True, True), (6, False, False)]
    assert asyncio.run(through(None)) == data, "aiormq's otherwise"
