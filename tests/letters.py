"""Dead letters in memory, for tests of what is done with them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.dead_letters.box import Held
from broker.dead_letters.letter import Letter
from broker.dead_letters.post import Posted
from broker.topology import DEAD
from schemas.dead import AuditRecord

AT = datetime(2026, 3, 1, 14, 5, tzinfo=UTC)


def letter(number: int = 1, **parts: Any) -> Letter:
    """A release that died at minute `number` of the afternoon."""
    network, node = parts.get("network", "prod"), parts.get("node", "node-1")
    body = {"network": network, "node": node, "container_id": "c1", "ifname": "eth0"}
    usual: dict[str, Any] = {
        "id": f"{number:06d}-letter",
        "body": json.dumps(body).encode(),
        "routing_key": "3.address.release",
        "request": "address.release",
        "network": "prod",
        "node": "node-1",
        "sender": "node.node-1",
        "code": "pool_unknown",
        "reason": "there is no pool web",
        "first_death": AT + timedelta(minutes=number),
        "last_death": AT + timedelta(minutes=number),
        "deaths": 1,
        "version": 1,
        "properties": {"type": "address.release"},
    }
    return Letter(**(usual | parts))


@dataclass
class FakeBox:
    """What a box of these letters does. `left` are those that nobody took out."""

    letters: list[Letter]
    user: str = "operator.ann"
    shared: bool = False
    seen: int = 0
    left: list[Letter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = list(self.letters)
        self.count = len(self.letters)

    async def take(self, limit: int) -> list[Held]:
        batch = self.letters[self.seen : self.seen + limit]
        self.seen += len(batch)
        return [Held(one, None, number) for number, one in enumerate(batch)]  # type: ignore[arg-type]

    async def settle(self, done: Sequence[Held]) -> None:
        for held in done:
            self.left.remove(held.letter)


@dataclass
class FakePost:
    """Confirms whatever is sent and remembers it; `refused` keys are not taken."""

    user: str = "operator.ann"
    refused: frozenset[str] = frozenset()
    sent: list[Posted] = field(default_factory=list)

    async def send(self, messages: Sequence[Posted]) -> list[Exception | None]:
        self.sent += messages
        return [RuntimeError() if posted.key in self.refused else None for posted in messages]

    async def depth(self, queue: str) -> int:
        assert queue.startswith("moorage.allocator.")
        return 0

    @property
    def audited(self) -> list[AuditRecord]:
        return [AuditRecord.read(p.message.body) for p in self.sent if p.message.type == AuditRecord.NAME]

    @property
    def replayed(self) -> list[Posted]:
        return [p for p in self.sent if p.message.type != AuditRecord.NAME and p.exchange != DEAD]

    @property
    def buried(self) -> list[Posted]:
        return [p for p in self.sent if p.exchange == DEAD]


@dataclass
class Letters:
    """A box that can be opened again and again, and the post of the same command."""

    letters: list[Letter]
    refused: frozenset[str] = frozenset()
    later: list[Letter] = field(default_factory=list)
    """What dies after the first look."""

    def __post_init__(self) -> None:
        self.out = FakePost(refused=self.refused)

    @asynccontextmanager
    async def letter_box(self, url: str, *, timeout_s: float) -> AsyncIterator[FakeBox]:
        assert url.startswith("amqp://")
        assert timeout_s > 0
        box = FakeBox(list(self.letters))
        yield box
        self.letters, self.later = [*box.left, *self.later], []

    @asynccontextmanager
    async def post(self, url: str, *, timeout_s: float) -> AsyncIterator[FakePost]:
        assert url.startswith("amqp://")
        assert timeout_s > 0
        yield self.out
