"""The whole console over the real broker, in a thread of its own, and an allocator beside it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from broker import provisioning
from compose.allocator_process import run_allocator
from compose.console_process import run_console
from compose.services.local import LocalServices
from compose.settings import Settings
from console.access.tokens import Tokens
from tests.integration.brokering import LIMIT_S, Broker


@dataclass(frozen=True)
class RunningConsole:
    """Where it listens, and the tokens it takes."""

    url: str
    tokens: Tokens

    def program(self, token: str) -> httpx.Client:
        """A program that asks with this token."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_S * 2
        )

    def status(self, token: str) -> int:
        """What it answers to a question for the networks; 0 where nobody answers."""
        try:
            with self.program(token) as client:
                return client.get("/api/v1/networks").status_code
        except httpx.TransportError:
            return 0

    def wait(self, token: str, status: int = 200) -> None:
        """Wait until it answers so."""
        until = time.monotonic() + LIMIT_S * 2
        while (found := self.status(token)) != status:
            assert time.monotonic() < until, f"it still answers {found}"
            time.sleep(0.05)


@contextmanager
def running_console(
    broker: Broker,
    services: LocalServices,
    folder: Path,
    through: Callable[[str], str] = str,
    timeout_s: float = 10,
) -> Iterator[RunningConsole]:
    """A console and an allocator until the context ends; `through` is its way to the broker."""
    console = provisioning.enroll_client(
        broker.management_url, "web", "console", vhost=broker.vhost, password="secret"
    ).amqp_url
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(
        amqp_url=through(console),
        console_listen=f"127.0.0.1:{port}",
        tokens_file=folder / "tokens.json",
        timeout_s=timeout_s,
    )
    allocator = Settings(amqp_url=broker.allocator, database_url=services.database_url)
    loop = asyncio.new_event_loop()

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_console(settings))
            group.create_task(run_allocator(allocator))

    task = loop.create_task(both())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])))
    thread.start()
    try:
        yield RunningConsole(f"http://127.0.0.1:{port}", Tokens(settings.tokens_file))
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(LIMIT_S * 2)
        loop.close()
