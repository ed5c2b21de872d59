"""The socket under a connection: deliveries are taken off it before aiormq sees them, replies put onto it.

aiormq lets its caller make the transport. Ours is asyncio's own but for a reader that hands the deliveries of
chosen channels to a function, as they come, and everything else to aiormq.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

from broker.frames import (
    A_HEARTBEAT,
    ACK,
    BLOCKED,
    BODY,
    DELIVER,
    END,
    HEAD,
    HEADER,
    HEARTBEAT,
    METHOD,
    NACK,
    RETURN,
    UNBLOCKED,
    Arrived,
    body_size,
    read_confirm,
    read_delivery,
    read_message_id,
)

Sink = Callable[[Arrived], None]


class Fates(Protocol):
    """What becomes of messages that were published on a channel with confirms. Neither may raise."""

    def returned(self, message_id: str | None) -> None:
        """No queue takes the message of this id; its confirm follows."""

    def confirmed(self, tag: int, *, multiple: bool, taken: bool) -> None:
        """The broker has the message of this number, and with `multiple` all before it, or refuses them."""


_LIMIT = 1 << 16
_SIGN_OF_LIFE_S = 1.0
_NEXT_ADDRESS_S = 1.0
"""After how long the next address of a name is tried, in seconds. One that nobody answers at would take all
the time that connecting has. The last one may.
"""


class NotTrusted(AMQPConnectionError):
    """TLS did not come about: the server speaks none, or its certificate is not believed."""


class Wire(TransportFactory):
    """The transport of one connection, for aiormq to make, and for us to reach past it."""

    def __init__(self, tls: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
        """`tls` is asked where the URL is one of `amqps`; what it raises is raised by `create`."""
        self._tls = tls
        self._reader: Tap | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio.open_connection, which has no place for a reader of one's own."""
        del kwargs["ssl_context_provider"]  # aiormq's own would believe whom the URL tells it to believe
        # What a machine trusts takes OpenSSL 35 ms to load, and all else here would stand still.
        context = await asyncio.to_thread(self._tls) if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = Tap(limit=_LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            connected = await _reach(url.host or "", url.port or 0)
            name = url.host if context is not None else None
            try:
                transport, _ = await loop.create_connection(
                    lambda: protocol, sock=connected, ssl=context, server_hostname=name, **kwargs
                )
            except BaseException:
                connected.close()
                raise
        except ssl.SSLError as error:
            raise NotTrusted(_reason(error)) from error
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self._reader, self._writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        return reader, self._writer

    def divert(self, channel: int, sink: Sink, fates: Fates | None = None) -> None:
        """From now on `sink` gets the deliveries of this channel, for as long as the connection lasts.

        `fates` is told what becomes of the messages that are published on it, all of them by us.
        """
        if self._reader is None:
            raise RuntimeError("there is no connection yet")
        self._reader.divert(channel, sink, fates)

    @property
    def blocked(self) -> bool:
        """Whether the broker said that it takes no messages, because of one of its alarms."""
        return self._reader is not None and self._reader.blocked

    def write(self, data: bytes) -> None:
        """Write whole frames of channels that are open. Raises `ConnectionResetError`."""
        if self._writer is None or self._writer.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)

    async def send(self, data: bytes) -> None:
        """As `write`, and waits while the other side takes no more."""
        self.write(data)
        if self._writer is not None:
            await self._writer.drain()


async def _reach(host: str, port: int) -> socket.socket:
    """A socket that is connected to one of the addresses of `host`. Raises OSError.

    asyncio tries them side by side where it is told to (RFC 8305); uvloop cannot.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for left, (family, kind, protocol, _, address) in zip(reversed(range(len(found))), found, strict=True):
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(_NEXT_ADDRESS_S if left else None):
                await loop.sock_connect(made, address)
        except BaseException as error:
            made.close()
            if not (left and isinstance(error, OSError)):
                raise
        else:
            return made
    raise OSError(f"{host} has no address")


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or str(error)).lower().replace("_", " ")


class Tap(asyncio.StreamReader):
    """A stream that the deliveries of some channels are taken out of."""

    def __init__(self, *, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=limit, loop=loop)
        self.blocked = False
        self._clock = loop.time
        self._taking: dict[int, _Deliveries] = {}
        self._rest = b""
        self._framed = True
        self._passed_at = 0.0

    def divert(self, channel: int, sink: Sink, fates: Fates | None = None) -> None:
        """From now on `sink` gets the deliveries of this channel, `fates` what became of what was sent."""
        self._taking[channel] = _Deliveries(sink, fates)

    def feed_data(self, data: Any) -> None:
        """Called by asyncio with the bytes that have come in."""
        if not self._framed:
            super().feed_data(data)
            return
        if self._rest:
            data = self._rest + data
        at = passed = 0
        while len(data) - at >= HEAD.size:
            kind, channel, size = HEAD.unpack_from(data, at)
            end = at + HEAD.size + size
            if not METHOD <= kind <= HEARTBEAT:
                self._framed = False  # no AMQP, or another version of it: aiormq shall say so
                break
            if len(data) <= end:
                break
            if channel == 0:
                self._note(data[at + HEAD.size : end])
            taking = self._taking.get(channel)
            if taking is not None and taking.take(kind, data[at + HEAD.size : end]):
                self._pass(data[passed:at])
                passed = end + len(END)
            at = end + len(END)
        if not self._framed:
            at = len(data)
        self._pass(data[passed:at])
        self._rest = data[at:]
        self._show_life()

    def feed_eof(self) -> None:
        """Called by asyncio at the end."""
        self._pass(self._rest)
        self._rest = b""
        super().feed_eof()

    def _note(self, payload: bytes) -> None:
        """See what the broker says of its alarms; aiormq is told too."""
        if payload.startswith((BLOCKED, UNBLOCKED)):
            self.blocked = payload.startswith(BLOCKED)

    def _pass(self, data: bytes) -> None:
        if data:
            self._passed_at = self._clock()
            super().feed_data(data)

    def _show_life(self) -> None:
        """Where all that comes is taken out, aiormq would think that the connection is stuck."""
        if self._passed_at and self._clock() - self._passed_at > _SIGN_OF_LIFE_S:
            self._pass(A_HEARTBEAT)


class _Deliveries:
    """The frames of one channel's deliveries, put together; of returns and confirms where those are ours."""

    def __init__(self, sink: Sink, fates: Fates | None) -> None:
        self._sink = sink
        self._fates = fates
        self._method: bytes | None = None
        self._header = b""
        self._body: list[bytes] = []
        self._missing = 0

    def take(self, kind: int, payload: bytes) -> bool:
        """Whether the frame belongs to a delivery."""
        if kind == METHOD:
            return self._take_method(payload)
        if self._method is None:
            return False
        if kind == HEADER:
            self._header, self._missing = payload, body_size(payload)
        elif kind == BODY:
            self._body.append(payload)
            self._missing -= len(payload)
        if self._missing <= 0:
            method, self._method = self._method, None
            if method.startswith(DELIVER):
                self._sink(read_delivery(method, self._header, b"".join(self._body)))
            elif self._fates is not None:
                self._fates.returned(read_message_id(self._header))
        return True

    def _take_method(self, payload: bytes) -> bool:
        if payload.startswith(DELIVER) or (self._fates is not None and payload.startswith(RETURN)):
            self._method, self._body = payload, []
            return True
        if self._fates is not None and payload.startswith((ACK, NACK)):
            tag, multiple = read_confirm(payload)
            self._fates.confirmed(tag, multiple=multiple, taken=payload.startswith(ACK))
            return True
        return False
