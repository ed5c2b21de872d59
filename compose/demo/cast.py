"""Who takes part in the demo: the running stack, the pods, and the ways to ask and to look."""

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from broker.login import login
from compose.asking import ask
from compose.demo.pods import Sandbox
from compose.demo.story import StepFailed, Story
from compose.hosts import prefix_of
from compose.stack import Stack
from schemas.address import AddressShow, AddressView
from schemas.message import Message, Request

A = TypeVar("A", bound=Message)
F = TypeVar("F")
NETWORK = "prod"
_VHOST = "%2F"


@dataclass
class Cast:
    """The demo's means. `undo` removes what the story leaves."""

    stack: Stack
    story: Story
    shim: Path
    undo: ExitStack
    sandboxes: dict[str, Sandbox] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def ask(self, request: Request, answer: type[A]) -> A:
        """Ask the allocator as an operator."""
        return ask(self.stack.console, request, answer)

    def sandbox(self, owner: str, node: str, network: str = NETWORK) -> Sandbox:
        """A new sandbox for a pod on a node; not started yet."""
        running = next(n for n in self.stack.nodes if n.name == node)
        made = Sandbox(
            owner=owner,
            node=node,
            socket=running.socket,
            shim=self.shim,
            network=network,
            netns=f"{prefix_of(self.stack.state_dir)}-pod-{next(self._numbers)}",
        )
        self.undo.callback(made.remove)
        self.sandboxes[owner] = made
        return made

    def show(self, address: str) -> AddressView:
        """What the allocator knows of an address."""
        return self.ask(AddressShow.model_validate({"network": NETWORK, "address": address}), AddressView)

    def publish_raw(self, routing_key: str, body: str) -> None:
        """Publish a body as it is, past all of our own code, through RabbitMQ's management API."""
        api = login(self.stack.servers.management_url).url()
        url = f"{api}/api/exchanges/{_VHOST}/moorage.requests/publish"
        message = {
            "properties": {
                "delivery_mode": 2,
                "user_id": httpx.URL(url).username,
                "headers": {"schema_version": 1},
            },
            "routing_key": routing_key,
            "payload": body,
            "payload_encoding": "string",
        }
        httpx.post(url, json=message, timeout=10).raise_for_status()


def eventually(found: Callable[[], F | None], what: str, limit_s: float = 10) -> F:
    """The first result of `found` that is not None. Raises StepFailed naming `what` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        result = found()
        if result is not None:
            return result
        if time.monotonic() > deadline:
            raise StepFailed(f"{what} did not happen within {limit_s:.0f} s")
        time.sleep(0.05)
