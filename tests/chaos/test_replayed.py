"""Dead letters that are replayed when the world has moved on: what is done or over stays as it is."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from schemas.address import AddressAllocate, AddressRelease
from schemas.history import HistoryList, HistoryPage
from schemas.message import Request
from schemas.pool import PoolCreate, PoolList, PoolPage, PoolResize
from tests.acceptance.machines import until
from tests.chaos.stage import Stage
from tests.integration.brokering import hand

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]


def moorage(stage: Stage, *words: str) -> Any:
    """What a `moorage dead` command answers as JSON."""
    done = stage.command("dead", *words, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def died(stage: Stage, url: str, request: Request, code: str) -> None:
    """There is a dead letter of a request that nobody waits for."""

    async def send() -> None:
        async with hand(url) as sender:
            await sender.publish(request)

    asyncio.run(send())
    (letter,) = until(lambda: letters(stage))
    assert (letter["request"], letter["code"]) == (request.NAME, code)


def letters(stage: Stage) -> list[Any]:
    """The dead letters."""
    return list(moorage(stage, "list", "--all")["letters"])


def replay(stage: Stage, **left: Any) -> None:
    """Replay all; afterwards there is what is `left`: nothing, or one letter that is like that."""
    replayed = moorage(stage, "replay", "--all")
    assert (replayed["replayed"], replayed["left"]) == (1, 0)
    until(lambda: [{key: letter[key] for key in left} for letter in letters(stage)] == [left] * bool(left))


def events(stage: Stage, network: str) -> list[str]:
    query = HistoryList.model_validate({"network": network, "limit": 500})
    return [row.event for row in stage.ask(query, HistoryPage).rows]


def test_a_dead_letter_replayed_twice(stage: Stage, tmp_path: Path):
    """The pool that was asked for before its network existed is made once."""
    body = {"request_id": uuid.uuid4().hex, "network": "later", "pool": "some", "policy": "pinned", "size": 8}
    died(stage, stage.broker.producer, PoolCreate.model_validate(body), "network_unknown")
    kept = str(tmp_path / "letters.jsonl")
    moorage(stage, "export", kept)
    stage.network("later", "10.90.0.0/24")
    replay(stage)
    until(lambda: "pool.created" in events(stage, "later"))
    moorage(stage, "import", kept)
    replay(stage)
    assert pool_named(stage, "later", "some").total == 8
    assert events(stage, "later").count("pool.created") == 1
    assert events(stage, "_system").count("dead.replayed") == 2


def test_a_dead_letter_replayed_for_a_dead_container(stage: Stage):
    """Its pod was given up, so no address goes to it any more."""
    where = {"network": "prod", "node": "n1", "container_id": "gone", "ifname": "eth0"}
    named = where | {"attachment_id": uuid.uuid4()}
    request = AddressAllocate.model_validate(named | {"owner": "bank/api-0", "pool": "nowhere"})
    died(stage, stage.broker.node, request, "pool_unknown")
    stage.ask(AddressRelease.model_validate(named), AddressRelease.ANSWER)
    body = {
        "request_id": uuid.uuid4().hex,
        "network": "prod",
        "pool": "nowhere",
        "policy": "shared",
        "size": 8,
    }
    stage.ask(PoolCreate.model_validate(body), PoolCreate.ANSWER)
    replay(stage, code="attachment_released", deaths=2)
    assert stage.attached() == []
    moorage(stage, "discard", "--all", "--yes")


def test_an_old_administrative_request_replayed(stage: Stage):
    """A pool that was resized since keeps its size: the request was made for an older version of it."""
    before = pool_named(stage, "prod", "web")
    change = {"network": "prod", "pool": "web", "expected_version": before.version}
    old = PoolResize.model_validate({"request_id": "old", "size": 200_000} | change)
    died(stage, stage.broker.operator, old, "exhausted")
    stage.ask(PoolResize.model_validate({"request_id": "new", "size": 20} | change), PoolResize.ANSWER)
    replay(stage, code="version_conflict", deaths=2)
    assert pool_named(stage, "prod", "web").total == 20
    moorage(stage, "discard", "--all", "--yes")


def pool_named(stage: Stage, network: str, name: str) -> Any:
    pools = stage.ask(PoolList.model_validate({"network": network}), PoolPage).pools
    return next(pool for pool in pools if pool.pool == name)
