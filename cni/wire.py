"""The whole contract between the shim and the node worker: what a call and an answer look like in bytes.

A call, from the shim:    u32 length | NAME=value NUL ... | NUL | standard input
An answer, to the shim:   u32 length | exit status (one byte) | standard output

Lengths are big-endian and count what follows them, at most `MAX_BODY` bytes. One call and one answer use up
a connection. The caller keeps its side open until it has the answer: closing it says that nobody waits any
more. `cni/shim.c` is the other half of this file.
"""

import struct
from collections.abc import Mapping

HEADER_BYTES = 4
MAX_BODY = 1 << 20
_LENGTH = struct.Struct(">I")


class FrameError(ValueError):
    """The bytes are not a frame as this file describes it, or one longer than `MAX_BODY`."""


class FrameTooLargeError(FrameError):
    """A frame's body is longer than `MAX_BODY`."""


def body_length(header: bytes) -> int:
    """How many bytes follow this header. Raises `FrameTooLargeError`."""
    (length,) = _LENGTH.unpack(header)
    return _checked(int(length))


def encode_call(env: Mapping[str, str], stdin: bytes) -> bytes:
    """The whole frame of a call. Raises `FrameError` for a NUL, a nameless variable, or too many bytes."""
    entries = [f"{name}={value}".encode(errors="surrogateescape") for name, value in env.items()]
    if any(b"\0" in entry or entry.startswith(b"=") for entry in entries):
        raise FrameError("a variable needs a name and cannot hold a NUL byte")
    return _framed(b"".join(entry + b"\0" for entry in entries) + b"\0" + stdin)


def decode_call(body: bytes) -> tuple[dict[str, str], bytes]:
    """The variables and the standard input of a call's body. Raises `FrameError`.

    Bytes that are not UTF-8 become lone surrogates, as in `os.environ`. Of a repeated name the first counts,
    as for getenv(3), so that shim and worker agree on the verb.
    """
    if body.startswith(b"\0"):
        return {}, body[1:]
    head, end, stdin = body.partition(b"\0\0")
    if not end:
        raise FrameError("the variables do not end with an empty one")
    env: dict[str, str] = {}
    for entry in head.split(b"\0"):
        name, sign, value = entry.decode(errors="surrogateescape").partition("=")
        if not name or not sign:
            raise FrameError("a variable is not NAME=value")
        env.setdefault(name, value)
    return env, stdin


def encode_answer(status: int, stdout: bytes) -> bytes:
    """The whole frame of an answer; `status` is 0 to 255. Raises `FrameTooLargeError`."""
    return _framed(bytes([status]) + stdout)


def decode_answer(body: bytes) -> tuple[int, bytes]:
    """The exit status and the standard output of an answer's body. Raises `FrameError`."""
    if not body:
        raise FrameError("an answer without exit status")
    return body[0], body[1:]


def _framed(body: bytes) -> bytes:
    return _LENGTH.pack(_checked(len(body))) + body


def _checked(length: int) -> int:
    if length > MAX_BODY:
        raise FrameTooLargeError(f"{length} bytes in one frame: at most {MAX_BODY} are allowed")
    return length
