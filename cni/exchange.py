"""One call's bytes in and one answer's bytes out, over a connection of which nothing is trusted."""

import asyncio
import contextlib
import socket
import struct

import structlog

from cni import wire
from cni.errors import CniError, SpecCode

TRANSFER_S = 5.0  # to receive a whole call, or to send a whole answer
_ONCE_MORE_S = 0.5
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED

_log = structlog.get_logger()


class CallerGoneError(Exception):
    """Nobody waits for the answer any more."""


async def receive(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """The variables and the standard input of the call. Raises `CallerGoneError`, `CniError` (5, 6, 7)."""
    size: int | None = None
    try:
        # The second time is for a worker that stood still for longer than that: the call came meanwhile.
        for limit_s in (TRANSFER_S, _ONCE_MORE_S):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    if size is None:
                        size = wire.body_length(await reader.readexactly(wire.HEADER_BYTES))
                    body = await reader.readexactly(size)
                    return wire.decode_call(body)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise CallerGoneError from error
    except wire.FrameTooLargeError as error:
        raise CniError(SpecCode.INVALID_CONFIG, f"the configuration is too long: {error}") from None
    except wire.FrameError as error:
        raise CniError(SpecCode.DECODING_FAILURE, f"the call is not a frame: {error}") from None
    raise CniError(SpecCode.IO_FAILURE, f"the call did not arrive within {TRANSFER_S:g} s")


async def send(writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Send all of `answer`; a caller who left or does not read is left alone (DEL or reconcile frees it)."""
    try:
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() means: all of it is sent
        writer.write(answer)
        async with asyncio.timeout(TRANSFER_S):
            await writer.drain()
    except (OSError, TimeoutError) as error:
        _log.warning("a CNI answer reached nobody", error=type(error).__name__)


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """The user who made the connection, as the kernel recorded it."""
    sock: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)
