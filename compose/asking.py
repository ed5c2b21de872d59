"""Ask the allocator one thing from plain code: for `moorage up` and the demo."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from broker.login import Where
from broker.rpc import rpc_client
from schemas.errors import Code, ServiceError
from schemas.message import Message, Request
from schemas.node import NodeList, NodePage

A = TypeVar("A", bound=Message)
_POLL_S = 0.1


def ask(url: Where, request: Request, answer: type[A], *, timeout_s: float = 30) -> A:
    """The answer to `request`. Raises ServiceError."""

    async def once() -> Message:
        async with rpc_client(url, name="moorage") as client:
            return await client.ask(request, timeout_s=timeout_s)

    found = asyncio.run(once())
    if not isinstance(found, answer):
        raise ServiceError(Code.INTERNAL, f"{request.NAME} was answered with a {type(found).__name__}")
    return found


def wait_for_nodes(url: Where, names: Sequence[str], check: Callable[[], None], limit_s: float = 60) -> None:
    """Return when all nodes `names` are ready. `check` is called meanwhile, to raise when all is in vain."""
    deadline = time.monotonic() + limit_s
    while True:
        check()
        nodes = ask(url, NodeList(), NodePage).nodes
        missing = set(names) - {node.node for node in nodes if node.state == "ready"}
        if not missing:
            return
        if time.monotonic() > deadline:
            raise ServiceError(
                Code.TIMEOUT,
                f"nodes {', '.join(sorted(missing))} did not become ready within {limit_s:.0f} s: see their "
                "worker.log in the state folder",
            )
        time.sleep(_POLL_S)
