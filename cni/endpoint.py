"""The node worker's side of the socket: reads each call, has it handled within its time, sends the answer.

Promises. Calls of one container are handled one after another in the order they came, those of different
containers side by side. A handler is not disturbed when its caller goes away: a half-wired pod is worse than
a wired one, and the runtime will send DEL. (An ADD whose caller was gone before its turn is not begun.) A
handler is cancelled only when its time is over or the worker stops, and must then undo what it did.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, cast
from weakref import WeakValueDictionary

import structlog

from cni import wire
from cni.errors import CniError, SpecCode, from_exception
from cni.exchange import TRANSFER_S, CallerGoneError, peer_uid, receive, send
from cni.listening_socket import listen
from cni.netconf import asked_version
from cni.request import CniRequest, Command, parse
from cni.result import CniResult, encode, render, render_error
from schemas.errors import Code, ServiceError

# Whole calls, in seconds: shorter than the shim's own limits, so that the reason reaches the runtime.
LIMITS_S: Mapping[Command, float] = {
    Command.ADD: 55,
    Command.DEL: 18,
    Command.CHECK: 18,
    Command.GC: 23,
    Command.STATUS: 0.9,
}
_UNWIND_S = 1.0  # for a cancelled handler to undo what it did
_OPEN_PER_SLOT = 8  # connections that may wait for each call that is handled

Observe = Callable[[str | None, int, float], None]
"""Is told of each answered call: its verb, None for one that could not be read; its code; its seconds."""

_log = structlog.get_logger()


class Handler(Protocol):
    """What the node worker does for each verb. Raises `CniError` or `ServiceError`."""

    async def add(self, request: CniRequest) -> CniResult:
        """Attach the container. Cancelled or failing, it leaves nothing behind."""

    async def delete(self, request: CniRequest) -> None:
        """Detach the container; a success also when there is nothing to detach."""

    async def check(self, request: CniRequest) -> None:
        """Raise what is wrong with the container's attachment."""

    async def collect(self, request: CniRequest) -> None:
        """Detach whatever of this configuration is not among its valid attachments (GC)."""

    async def status(self, request: CniRequest) -> None:
        """Raise why ADD would not be served now, from what is known already."""


_VERBS: Mapping[Command, Callable[[Handler, CniRequest], Awaitable[CniResult | None]]] = {
    Command.ADD: lambda handler, request: handler.add(request),
    Command.DEL: lambda handler, request: handler.delete(request),
    Command.CHECK: lambda handler, request: handler.check(request),
    Command.GC: lambda handler, request: handler.collect(request),
    Command.STATUS: lambda handler, request: handler.status(request),
}


@asynccontextmanager
async def serve(
    socket_path: Path,
    handler: Handler,
    *,
    allowed_uids: frozenset[int] | None = None,
    max_concurrent: int = 64,
    limits_s: Mapping[Command, float] = LIMITS_S,
    observe: Observe = lambda *_: None,
) -> AsyncIterator[None]:
    """Answer CNI calls at `socket_path` until the block ends; then running calls get 5 s to end.

    `allowed_uids` are the users that may call, by default root and our own; `max_concurrent` is how many
    calls of one verb are handled at a time; `limits_s` bounds each verb, in seconds from the connection on;
    `observe` must not raise.
    Raises ValueError or OSError when the socket cannot be made (see `listening_socket.listen`).
    """
    uids = frozenset({0, os.geteuid()}) if allowed_uids is None else allowed_uids
    calls = _Calls(handler, uids, max_concurrent, limits_s, observe)
    listening = listen(socket_path)
    try:
        server = await asyncio.start_unix_server(calls.connected, sock=listening.sock)
        try:
            yield
        finally:
            listening.remove()
            server.close()
            await calls.finish()
    finally:
        listening.remove()
        listening.sock.close()


class _Calls:
    """The calls in flight at one socket."""

    def __init__(
        self,
        handler: Handler,
        uids: frozenset[int],
        max_concurrent: int,
        limits_s: Mapping[Command, float],
        observe: Observe,
    ) -> None:
        self._handler = handler
        self._observe = observe
        self._uids = uids
        self._limits_s = limits_s
        # Each verb has slots of its own: ADDs that wait for a broker must not keep DELs waiting.
        self._slots = {verb: asyncio.Semaphore(max_concurrent) for verb in _VERBS}
        self._most_open = max_concurrent * _OPEN_PER_SLOT
        self._open: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[CniResult | None]] = set()
        # A lock lives as long as somebody holds or awaits it, and leaves by itself.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one call, one answer."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._open.add(task)
        try:
            call = _Call(started=monotonic())
            answer = await self._answer(reader, writer, call)
            try:
                if answer is not None:
                    await send(writer, answer)
            finally:
                call.record(self._observe)  # not before: the runtime waits
        finally:
            self._open.discard(task)
            writer.transport.abort()  # everything was sent, or nobody takes it

    async def finish(self) -> None:
        """Let the running calls end; cancel their handlers after a while, then the connections."""
        if self._open:
            await asyncio.wait(self._open, timeout=TRANSFER_S)
        for work in self._work:
            work.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=_UNWIND_S)
        for connection in self._open:
            connection.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=_UNWIND_S)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: "_Call"
    ) -> bytes | None:
        """The frame to send back; None when nobody waits for one. What `call` is to tell is noted there."""
        stdin = b""
        try:
            self._admit(writer)
            env, stdin = await receive(reader)
            call.request = request = parse(env, stdin)
            call.result = result = await self._handle(request, reader, call.started)
            stdout = b""
            if result is not None:
                before = None if request.conf.delegated else request.conf.prevResult
                stdout = encode(render(result, request.conf.cniVersion, before))
            return wire.encode_answer(0, stdout)
        except CallerGoneError:
            call.failure = "the caller is gone"
            return None
        except Exception as error:
            call.failure = failure = from_exception(error)
            call.cause = None if isinstance(error, (CniError, ServiceError)) else error
            return wire.encode_answer(1, encode(render_error(failure, asked_version(stdin))))

    def _admit(self, writer: asyncio.StreamWriter) -> None:
        uid = peer_uid(writer)
        if uid not in self._uids:
            raise ServiceError(
                Code.SENDER_FORBIDDEN, f"user {uid} may not make CNI calls here: run it as root"
            )
        if len(self._open) > self._most_open:
            raise CniError(
                SpecCode.TRY_AGAIN_LATER, f"the node worker is busy with {self._most_open} calls: try again"
            )

    async def _handle(
        self, request: CniRequest, reader: asyncio.StreamReader, started: float
    ) -> CniResult | None:
        """The handler's result or error, within the verb's time; `CniError` 11 when that is over."""
        limit = self._limits_s[request.command]
        # A task of its own: it outlives this one where it has to, and its cancellation is not ours.
        work = asyncio.create_task(self._in_turn(request, reader))
        self._work.add(work)
        work.add_done_callback(self._forget)
        await asyncio.wait({work}, timeout=max(0.0, started + limit - monotonic()))
        if not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=min(_UNWIND_S, limit / 20))
        if work.done() and not work.cancelled():
            return work.result()
        over = monotonic() >= started + limit
        reason = f"did not end within {limit:g} s" if over else "was stopped"
        code = SpecCode.NOT_AVAILABLE if request.command is Command.STATUS else SpecCode.TRY_AGAIN_LATER
        raise CniError(
            code,
            f"{request.command} {reason} in the node worker: the call may be tried again",
        )

    async def _in_turn(self, request: CniRequest, reader: asyncio.StreamReader) -> CniResult | None:
        handle = _VERBS[request.command]
        if not request.container_id:
            return await handle(self._handler, request)
        turn = self._turns.setdefault(request.container_id, asyncio.Lock())
        async with turn, self._slots[request.command]:
            if request.command is Command.ADD and reader.at_eof():
                raise CallerGoneError
            return await handle(self._handler, request)

    def _forget(self, work: asyncio.Task[CniResult | None]) -> None:
        self._work.discard(work)
        if not work.cancelled():
            work.exception()  # seen: whoever still waits for it reports it


@dataclass(slots=True)
class _Call:
    """What the log tells of one call: one line, with a traceback where there is a `cause`."""

    started: float
    request: CniRequest | None = None
    result: CniResult | None = None
    failure: CniError | str | None = None
    cause: Exception | None = None

    def record(self, observe: Observe) -> None:
        took_s = monotonic() - self.started
        about: dict[str, Any] = {"ms": round(took_s * 1000, 1)}
        if not isinstance(self.failure, str):
            verb = str(self.request.command) if self.request is not None else None
            observe(verb, self.failure.code if self.failure is not None else 0, took_s)
        if self.request is not None:
            about |= {
                "request": str(self.request.command),
                "container_id": self.request.container_id,
                "ifname": self.request.ifname,
                "network": self.request.network,
                "owner": self.request.owner,
                **self.request.notes,
            }
        if self.failure is not None:
            _log.warning("CNI call failed", **about, error=str(self.failure), exc_info=self.cause)
            return
        if self.result is not None:
            about["address"] = [str(item.address.ip) for item in self.result.ips]
        _log.info("CNI call", **about)
