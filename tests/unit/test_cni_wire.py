"""What a frame is, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni import wire

_NAME = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1)
_VALUE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(_NAME, _VALUE), st.binary())
def test_a_call_arrives_as_it_was_sent(env: dict[str, str], stdin: bytes) -> None:
    frame = wire.encode_call(env, stdin)
    assert wire.body_length(frame[:4]) == len(frame) - wire.HEADER_BYTES
    assert wire.decode_call(frame[4:]) == (env, stdin)


@given(st.integers(0, 255), st.binary())
def test_an_answer_arrives_as_it_was_sent(status: int, stdout: bytes) -> None:
    assert wire.decode_answer(wire.encode_answer(status, stdout)[4:]) == (status, stdout)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_call_or_a_frame_error(body: bytes) -> None:
    try:
        env, _ = wire.decode_call(body)
    except wire.FrameError:
        return
    assert all(name and "\0" not in name + value for name, value in env.items())


@pytest.mark.parametrize("body", [b"", b"CNI_COMMAND=ADD", b"CNI_COMMAND=ADD\0", b"CNI\0\0{}", b"=x\0\0{}"])
def test_a_broken_call_is_refused(body: bytes) -> None:
    with pytest.raises(wire.FrameError):
        wire.decode_call(body)


def test_of_a_repeated_name_the_first_counts_as_it_does_for_the_shim() -> None:
    assert wire.decode_call(b"CNI_COMMAND=DEL\0CNI_COMMAND=ADD\0\0")[0] == {"CNI_COMMAND": "DEL"}


def test_bytes_that_are_not_utf_8_survive_both_ways() -> None:
    env, _ = wire.decode_call(b"CNI_NETNS=/x\xff\0\0")
    assert wire.encode_call(env, b"")[4:] == b"CNI_NETNS=/x\xff\0\0"


def test_a_frame_of_one_mebibyte_passes_and_one_byte_more_does_not() -> None:
    assert len(wire.encode_call({}, b"x" * (wire.MAX_BODY - 1))) == wire.MAX_BODY + 4
    with pytest.raises(wire.FrameTooLargeError):
        wire.encode_call({}, b"x" * wire.MAX_BODY)
    with pytest.raises(wire.FrameTooLargeError):
        wire.encode_answer(0, b"x" * wire.MAX_BODY)
    with pytest.raises(wire.FrameTooLargeError):
        wire.body_length(b"\x00\x10\x00\x01")


def test_an_answer_needs_an_exit_status() -> None:
    with pytest.raises(wire.FrameError):
        wire.decode_answer(b"")
