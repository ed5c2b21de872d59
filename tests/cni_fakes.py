"""A handler and a caller of the CNI endpoint that tests can steer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from cni import wire
from cni.request import CniRequest
from cni.result import CniResult, Ip

CONF = {"cniVersion": "1.0.0", "name": "pods", "type": "moorage", "network": "prod"}
RESULT = CniResult((), (Ip(ip_interface("10.20.0.5/24"), None, None),), ())
Work = Callable[[CniRequest], Awaitable[Any]]


async def nothing(request: CniRequest) -> None:
    """A handler that is done at once."""


class FakeHandler:
    """Does `work` for every call and remembers what began, ended and was cancelled, in order."""

    def __init__(self, work: Work = nothing) -> None:
        self.work = work
        self.seen: list[str] = []
        self.changed = asyncio.Condition()

    async def _note(self, what: str, request: CniRequest) -> None:
        async with self.changed:
            self.seen.append(f"{what} {request.command} {request.container_id}")
            self.changed.notify_all()

    async def add(self, request: CniRequest) -> CniResult:
        await self.delete(request)
        return RESULT

    async def delete(self, request: CniRequest) -> None:
        await self._note("begin", request)
        try:
            await self.work(request)
        except asyncio.CancelledError:
            await self._note("cancelled", request)
            raise
        await self._note("end", request)

    check = collect = status = delete

    async def saw(self, *what: str) -> None:
        """Wait until all of `what` has been seen."""
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: set(what) <= set(self.seen))


def frame(verb: str = "ADD", container: str = "c1", **conf: Any) -> bytes:
    env = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "eth0",
    }
    return wire.encode_call(env, json.dumps(CONF | conf).encode())


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The exit status and the printed object (None for no output) of one answer."""
    async with asyncio.timeout(10):
        size = wire.body_length(await reader.readexactly(wire.HEADER_BYTES))
        status, stdout = wire.decode_answer(await reader.readexactly(size))
    return status, json.loads(stdout) if stdout else None


async def exchange_frames(path: Path, sent: bytes) -> tuple[int, Any]:
    """What comes back for `sent`, and that the connection ends with it."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(sent)
    answer = await read_answer(reader)
    with contextlib.suppress(ConnectionResetError):  # it was refused before it was read
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    writer.close()
    return answer


async def ask(path: Path, verb: str = "ADD", container: str = "c1", **conf: Any) -> tuple[int, Any]:
    return await exchange_frames(path, frame(verb, container, **conf))


@contextlib.asynccontextmanager
async def hung_up(path: Path, sent: bytes) -> AsyncIterator[None]:
    """A caller who has sent `sent`; at the block's end it leaves without reading."""
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.write(sent)
    await writer.drain()
    yield
    writer.close()
    await writer.wait_closed()
