"""The shim as a process, and workers that answer it well, badly or never."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni import wire
from tests.cni_fakes import CONF

SOURCE = Path(__file__).parent.parent.parent / "cni" / "shim.c"
ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
}
STDIN = json.dumps(CONF).encode()
VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
OK_ANSWER = wire.encode_answer(0, b'{"cniVersion":"1.0.0"}\n')
Env = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Outcome:
    """How the process ended and what it printed."""

    status: int | None
    stdout: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        document = json.loads(self.stdout)
        assert isinstance(document, dict)
        return document

    def failed(self, code: int) -> str:
        """Check that this is a well-formed CNI error with this code; its message."""
        document = self.document
        assert self.status == 1
        assert set(document) == {"cniVersion", "code", "msg", "details"}
        assert document["code"] == code, document
        said = (document["msg"] + document["details"]).lower()
        assert "not found" not in said
        assert "no such file or directory" not in said
        assert document["msg"]
        return str(document["msg"])


def build(folder: Path, *extra: str) -> Path:
    """Compile the shim as the Makefile does, with `extra` flags."""
    program = folder / "moorage"
    flags = ("-static", "-Os", "-Wall", "-Wextra", "-Werror", *extra)
    subprocess.run(["musl-gcc", *flags, "-o", program, SOURCE], check=True, timeout=60)
    return program


async def start(program: Path, path: Path | bytes | str, env: Env = ENV) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        program,
        env={**env, "MOORAGE_CNI_SOCKET": os.fsencode(path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def ending(process: asyncio.subprocess.Process, stdin: bytes = STDIN) -> Outcome:
    async with asyncio.timeout(15):
        stdout, _ = await process.communicate(stdin)
    return Outcome(process.returncode, stdout)


async def run(program: Path, path: Path | bytes | str, stdin: bytes = STDIN, **env: str | bytes) -> Outcome:
    return await ending(await start(program, path, {**ENV, **env}), stdin)


class Calls(list[bytes]):
    """The bodies of the calls that a worker has read, and any byte that came behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()
        self.excess = b""


@contextlib.asynccontextmanager
async def worker(path: Path, *pieces: bytes, then_hang: bool = False) -> AsyncIterator[Calls]:
    """A worker that reads each call whole, sends `pieces`, and hangs up (or hangs). Yields the calls."""
    calls = Calls()
    over = asyncio.Event()
    connections: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        size = wire.body_length(await reader.readexactly(4))
        calls.append(await reader.readexactly(size))
        calls.arrived.set()
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if then_hang:
                await over.wait()
            writer.write_eof()
            calls.excess += await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(connected, path)
    try:
        yield calls
    finally:
        over.set()
        server.close()
        while connections:
            task = connections.pop()
            if task is not None:
                async with asyncio.timeout(5):
                    await task
