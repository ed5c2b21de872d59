"""Our own reading and writing of frames, held to what pamqp says of the same bytes."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from broker.frames import A_HEARTBEAT, HEAD, Arrived, ack, publish, read_delivery
from broker.wire import Tap

CHANNEL = 7
TEXT = st.text(max_size=60)
HEADERS = st.dictionaries(
    st.text(max_size=30), st.one_of(st.booleans(), st.integers(-(2**31), 2**31), TEXT), max_size=5
)
TEXTS = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
)


@st.composite
def messages(draw: st.DrawFn) -> Arrived:
    """Any message that AMQP can carry."""
    texts = {name: draw(st.none() | TEXT.filter(bool)) for name in TEXTS}
    return Arrived(
        body=draw(st.binary(max_size=300)),
        delivery_tag=draw(st.integers(1, 2**62)),
        redelivered=draw(st.booleans()),
        routing_key=draw(TEXT),
        headers=draw(HEADERS),
        delivery_mode=draw(st.none() | st.integers(1, 2)),
        priority=draw(st.none() | st.integers(0, 255)),
        timestamp=draw(st.none() | st.integers(0, 2**32).map(lambda s: datetime.fromtimestamp(s, UTC))),
        **texts,
    )


def as_sent(message: Arrived, channel: int = CHANNEL, piece: int = 100) -> bytes:
    """The frames of its delivery, with the body in several."""
    given: dict[str, Any] = {name: getattr(message, name) for name in TEXTS if name != "type"}
    properties = commands.Basic.Properties(
        headers=dict(message.headers) or None,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        timestamp=message.timestamp,
        message_type=message.type,
        **given,
    )
    deliver = commands.Basic.Deliver(
        consumer_tag="ctag1.abc",
        delivery_tag=message.delivery_tag,
        redelivered=message.redelivered,
        exchange="moorage.requests",
        routing_key=message.routing_key,
    )
    pieces = [message.body[at : at + piece] for at in range(0, len(message.body), piece)]
    frames = [deliver, ContentHeader(0, len(message.body), properties), *map(ContentBody, pieces)]
    return b"".join(pamqp.frame.marshal(frame, channel) for frame in frames)


def through(data: bytes, cuts: list[int], *channels: int) -> tuple[list[Arrived], bytes]:
    """What a tap takes out of `data`, which comes in pieces, and what it lets pass."""

    async def run() -> tuple[list[Arrived], bytes]:
        tap, taken = Tap(limit=1 << 16, loop=asyncio.get_running_loop()), list[Arrived]()
        for channel in channels:
            tap.divert(channel, taken.append)
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, end in pairwise(edges):
            tap.feed_data(data[start:end])
        tap.feed_eof()
        return taken, await tap.read()

    return asyncio.run(run())


@settings(max_examples=30)
@given(st.lists(messages(), max_size=4), st.lists(st.integers(0, 10_000), max_size=6))
def test_deliveries_come_out_of_the_stream_as_they_were_sent_and_all_else_passes(
    sent: list[Arrived], cuts: list[int]
) -> None:
    others = [
        pamqp.frame.marshal(Heartbeat(), 0),
        as_sent(Arrived(body=b"for another channel"), channel=CHANNEL + 1),
        pamqp.frame.marshal(commands.Basic.QosOk(), CHANNEL),
        pamqp.frame.marshal(commands.Channel.Close(404, "NOT_FOUND", 0, 0), CHANNEL),
    ]
    mixed = b"".join(as_sent(message) + others[i % len(others)] for i, message in enumerate(sent))
    taken, passed = through(mixed, cuts, CHANNEL)
    assert taken == sent
    assert passed == b"".join(others[i % len(others)] for i in range(len(sent)))


def test_a_server_that_speaks_no_amqp_is_left_to_aiormq() -> None:
    assert through(b"AMQP\0\0\x09\x01", [3]) == ([], b"AMQP\0\0\x09\x01")
    assert through(b"HTTP/1.1 400 Bad Request\r\n", [3, 9]) == ([], b"HTTP/1.1 400 Bad Request\r\n")


def test_frames_before_a_channel_is_taken_pass_also_where_one_is_cut_in_two() -> None:
    early, late = as_sent(Arrived(body=b"early")), as_sent(Arrived(body=b"late"))

    async def run() -> bytes:
        tap, taken = Tap(limit=1 << 16, loop=asyncio.get_running_loop()), list[Arrived]()
        tap.feed_data(early + A_HEARTBEAT[:3])
        tap.divert(CHANNEL, taken.append)
        tap.feed_data(A_HEARTBEAT[3:] + late)
        tap.feed_eof()
        assert [message.body for message in taken] == [b"late"]
        return await tap.read()

    assert asyncio.run(run()) == early + A_HEARTBEAT


def test_a_connection_whose_frames_are_all_taken_out_still_shows_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.wire._SIGN_OF_LIFE_S", -1.0)
    _, passed = through(A_HEARTBEAT + as_sent(Arrived(body=b"1")), [len(A_HEARTBEAT)], CHANNEL)
    assert passed.startswith(A_HEARTBEAT * 2)


def test_alarms_are_seen_and_passed_on() -> None:
    blocked = pamqp.frame.marshal(commands.Connection.Blocked("low on disk"), 0)
    unblocked = pamqp.frame.marshal(commands.Connection.Unblocked(), 0)

    async def run() -> bytes:
        tap = Tap(limit=1 << 16, loop=asyncio.get_running_loop())
        assert not tap.blocked
        tap.feed_data(blocked + A_HEARTBEAT)
        assert tap.blocked
        tap.feed_data(unblocked)
        assert not tap.blocked
        tap.feed_eof()
        return await tap.read()

    assert asyncio.run(run()) == blocked + A_HEARTBEAT + unblocked


@pytest.mark.parametrize("field", [*TEXTS, "routing_key", "headers"])
def test_properties_that_are_no_text_are_left_out_and_the_rest_is_read(field: str) -> None:
    spoilt: dict[str, Any] = {field: {"MARK": 1} if field == "headers" else "MARK"}
    whole = {"user_id": "node.n1", "body": b"body", "headers": {"schema_version": 1}, "delivery_tag": 5}
    data = as_sent(Arrived(**(whole | spoilt))).replace(b"MARK", b"\xff\xfe\xff\xfe")
    ((message,), _) = through(data, [], CHANNEL)
    assert not message.readable
    assert (message.body, message.delivery_tag) == (b"body", 5)
    if field not in ("user_id", "headers"):
        assert message.user_id == "node.n1"


@given(st.binary(max_size=80))
def test_whatever_a_sender_puts_into_properties_it_is_taken_and_never_raises(junk: bytes) -> None:
    data = as_sent(Arrived(delivery_tag=5))
    method = data[HEAD.size : HEAD.size + HEAD.unpack_from(data)[2]]
    message = read_delivery(method, b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04" + junk, b"body")
    assert (message.body, message.delivery_tag) == (b"body", 5)


@settings(max_examples=30)
@given(TEXT, st.binary(max_size=500), TEXT, TEXT, st.integers(20, 200))
def test_what_is_published_reads_as_it_was_meant(
    key: str, body: bytes, correlation_id: str, kind: str, frame_max: int
) -> None:
    data = publish(
        CHANNEL,
        key,
        body,
        content_type="application/json",
        correlation_id=correlation_id,
        kind=kind,
        frame_max=frame_max,
    )
    frames = list(unmarshalled(data))
    method, header, pieces = frames[0], frames[1], frames[2:]
    assert (method.exchange, method.routing_key, method.mandatory) == ("", key, False)
    assert header.body_size == len(body)
    found = header.properties
    assert (found.content_type, found.delivery_mode) == ("application/json", 1)
    assert (found.correlation_id or "", found.message_type or "") == (correlation_id, kind)
    assert b"".join(piece.value for piece in pieces) == body
    assert all(len(piece.value) <= frame_max - 8 for piece in pieces)


def test_an_ack_reads_as_it_was_meant() -> None:
    (frame,) = unmarshalled(ack(CHANNEL, 2**40))
    assert isinstance(frame, commands.Basic.Ack)
    assert (frame.delivery_tag, frame.multiple) == (2**40, True)


def unmarshalled(data: bytes) -> Any:
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        assert channel == CHANNEL
        yield frame
        data = data[size:]


def test_a_short_string_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="255"):
        publish(1, "k" * 256, b"", content_type="", correlation_id=None, kind=None, frame_max=4096)
