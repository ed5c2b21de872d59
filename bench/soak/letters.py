"""The dead letters that a soak leaves. It asks nothing that cannot be served, so there must be none."""

from typing import Any
from urllib.parse import quote

import httpx

from bench.soak.ledger import Violation
from bench.soak.world import World
from broker.topology import DEAD

_MOST = 100
_WAIT_S = 30


def dead_letters(world: World) -> list[Violation]:
    """One violation for each, with its story; they stay where they are. Raises `httpx.HTTPError`."""
    url = httpx.URL(world.machine.services.management_url)
    path = f"/api/queues/{quote(world.place.vhost, safe='')}/{DEAD}/get"
    question = {"count": _MOST, "ackmode": "ack_requeue_true", "encoding": "auto"}
    answer = httpx.post(
        url.copy_with(username=None, password=None, path=path),
        auth=(url.username, url.password),
        json=question,
        timeout=_WAIT_S,
        trust_env=False,
    )
    answer.raise_for_status()
    return [violation_of(letter) for letter in answer.json()]


def violation_of(letter: dict[str, Any]) -> Violation:
    """What it comes to: its body, and its headers, which have the reason."""
    headers = letter["properties"].get("headers", {})
    return Violation("a dead letter", f"{letter.get('payload')}; headers {headers}")
