"""A process of its own that asks one query every few milliseconds, whatever the others do meanwhile."""

import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from bench.machine import on_uvloop
from bench.pods import WAIT_S
from broker.rpc import RpcClient, rpc_client
from compose.logging import configure_logging
from schemas.address import AddressShow

EVERY_S = 0.01
_AHEAD = -15


class Probe:
    """The running process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def wait_until_ready(self) -> None:
        """Return when it asks. Raises `EOFError` if it ended."""
        self._pipe.recv()

    def stop(self) -> list[tuple[float, float]]:
        """When each query was due, by the machine's monotonic clock, and how many seconds it then took."""
        self._pipe.send(None)
        samples: list[tuple[float, float]] = self._pipe.recv()
        return samples


@contextmanager
def probing(url: str, query: AddressShow) -> Iterator[Probe]:
    """Ask `query` until stopped, or until the context is left."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, url, query), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Probe(ours)
    finally:
        ours.close()
        process.terminate()
        process.join()


def _run(pipe: Connection, url: str, query: AddressShow) -> None:
    configure_logging("error", "text")
    # A watch that waits for a processor itself measures its own wait. Whom it watches gets no such favour.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _AHEAD)
    pipe.send(on_uvloop(_ask_until_told(pipe, url, query)))


async def _ask_until_told(pipe: Connection, url: str, query: AddressShow) -> list[tuple[float, float]]:
    """A query is sent when it is due, also while earlier ones wait: a stall counts for each of them."""
    samples: list[tuple[float, float]] = []
    async with rpc_client(url, name="bench probe") as asked, asyncio.TaskGroup() as group:
        await asked.ask(query, timeout_s=WAIT_S)
        pipe.send(None)
        due = time.monotonic()
        while not pipe.poll():
            group.create_task(_sample(asked, query, due, samples))
            due += EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return samples


async def _sample(
    asked: RpcClient, query: AddressShow, due: float, samples: list[tuple[float, float]]
) -> None:
    await asked.ask(query, timeout_s=WAIT_S)
    samples.append((due, time.monotonic() - due))
