"""A bar over the nodes while a network is made, changed or taken away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from console.output import printable, stderr
from schemas.errors import ServiceError
from schemas.message import Message, Request
from schemas.network import NetworkShow, NetworkView

_EVERY_S = 0.25
_ASK_S = 5.0


class Asker(Protocol):
    """See `console.session.Asker`."""

    async def ask(self, request: Request, *, timeout_s: float = 10.0) -> Message:
        """The answer, within `timeout_s` seconds."""
        ...


@asynccontextmanager
async def rollout_bar(asker: Asker, network: str, doing: str) -> AsyncIterator[None]:
    """Show how many nodes have reported on `network` for as long as the block runs, where that is seen.

    It asks beside the block, and whatever it meets is not the command's concern.
    """
    console = stderr()
    if not console.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task(printable(doing), total=None, told="")
        watching = asyncio.create_task(_watch(asker, network, progress, bar))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _watch(asker: Asker, network: str, progress: Progress, bar: TaskID) -> None:
    while True:
        await asyncio.sleep(_EVERY_S)
        with suppress(ServiceError):
            view = await asker.ask(NetworkShow(network=network, with_nodes=False), timeout_s=_ASK_S)
            if isinstance(view, NetworkView) and view.node_counts:
                total, told = progress_of(view)
                done = total - view.node_counts.get("pending", 0)
                progress.update(bar, total=total, completed=done, told=told)


def progress_of(view: NetworkView) -> tuple[int, str]:
    """How many nodes there are, and what they said so far, in words."""
    total = sum(view.node_counts.values())
    failed = view.node_counts.get("error", 0)
    reported = total - view.node_counts.get("pending", 0)
    return total, f"{reported} of {total} nodes" + (f", {failed} failed" if failed else "")
