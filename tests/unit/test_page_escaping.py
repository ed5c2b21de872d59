"""Whatever others write, in whatever field of an answer: a page shows it as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel

from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkList, NetworkShow
from schemas.pool import PoolCreate
from tests.letters import letter
from tests.visitors import EVIL, Visited, network, sent, world

_OURS = {"state", "policy", "event", "type", "count", "total", "prospect", "kind", "states"}
"""Fields that schemas hold to a few words, or to numbers."""


def poisoned(value: Any, name: str = "") -> Any:
    """An answer with something evil in each text that has no fixed words."""
    if isinstance(value, BaseModel):
        parts = {field: poisoned(getattr(value, field), field) for field in type(value).model_fields}
        return type(value).model_construct(**parts)
    if name in _OURS:
        return value
    if isinstance(value, str):
        return EVIL
    if isinstance(value, Mapping):
        return {
            (EVIL if name in {"details", "fields"} else key): poisoned(each, name)
            for key, each in value.items()
        }
    if isinstance(value, tuple | list):
        return tuple(poisoned(each, name) for each in value)
    return value


def poisoned_world() -> dict[Any, Any]:
    def answered(kind: Any, answer: Any) -> Any:
        def evil(asked: Any) -> Any:
            found = answer(asked)
            if kind is NetworkShow or kind is NetworkList:
                broken = {"node": "n", "state": "error", "error": {"code": "c", "message": "m"}}
                shown = network(nodes=[broken], definition={**_DEFINITION, "owners": ["shop/*"]})
                found = shown if kind is NetworkShow else found.model_copy(update={"networks": (shown,)})
            evil_one = poisoned(found)
            # The name that was asked for comes back, or nothing more could be asked about it.
            return evil_one.model_copy(update={"network": "prod"}) if kind is NetworkShow else evil_one

        return evil

    return {kind: answered(kind, answer) for kind, answer in world().items()}


_DEFINITION = {"subnets": [{"cidr": "10.1.0.0/24"}], "driver": {"type": "macvlan", "parent": "eth1"}}
EVIL_LETTER = letter(
    1,
    body=f'{{"network": "{EVIL[:8]}"}}{EVIL}'.encode(),
    **dict.fromkeys(("routing_key", "request", "network", "node", "sender", "code", "reason"), EVIL),
    properties={EVIL: EVIL},
)
PATHS = [
    "/networks",
    "/networks/prod",
    "/networks/prod/map",
    "/networks/prod/map?choose=1",
    "/networks/prod?within=10.1.0.0/16",
    "/networks/prod/addresses/10.1.0.7",
    "/apps/new?network=prod",
    f"/history?network=prod&address=10.1.0.7&at=2026-03-01T14:05&owner={quote(EVIL)}&node={quote(EVIL)}",
    f"/history?network=prod&at={quote(EVIL)}&since={quote(EVIL)}&until={quote(EVIL)}&address=10.1.0.7",
    f"/history?network={quote(EVIL)}",
    "/nodes",
    f"/nodes?fenced={quote(EVIL)}",
    f"/nodes/{quote(EVIL, safe='')}",
    "/dead",
    f"/dead?request={quote(EVIL)}&network={quote(EVIL)}&reason={quote(EVIL)}",
    "/dead/000001-letter",
    f"/dead/{quote(EVIL, safe='')}",
    f"/events?network={quote(EVIL)}",
    f"/networks/{quote(EVIL, safe='')}",
    f"/networks/prod?within={quote(EVIL)}",
    f"/networks/prod?at={quote(EVIL)}",
    f"/networks/prod/addresses/{quote(EVIL, safe='')}",
    f"/networks/prod?job={quote(EVIL)}",
    f"/apps/placed?network={quote(EVIL)}&name={quote(EVIL)}&namespace={quote(EVIL)}&image={quote(EVIL)}",
    f"/sign-in/{quote(EVIL, safe='')}",
    f"/{quote(EVIL)}",
]


def check(text: str) -> None:
    assert "<script>" not in text.lower()
    assert "alert('x')" not in text  # in no attribute either: quotes are written out
    assert EVIL not in text


@pytest.mark.parametrize("path", PATHS)
async def test_what_others_wrote_is_shown_as_text(tmp_path: Path, path: str):
    web = Visited(tmp_path, poisoned_world(), letters=[EVIL_LETTER])
    async with web.browser() as client:
        answer = await client.get(path)
    assert answer.status_code < 500
    check(answer.text)


SHOWN = ["/networks", "/networks/prod", "/networks/prod/addresses/10.1.0.7", "/history?network=prod", "/dead"]


@pytest.mark.parametrize("path", SHOWN)
async def test_it_is_shown_all_the_same(tmp_path: Path, path: str):
    """Else the test above would be content with pages that show nothing."""
    web = Visited(tmp_path, poisoned_world(), letters=[EVIL_LETTER])
    async with web.browser() as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in answer.text


EVIL_ERROR = ServiceError(
    EVIL,
    EVIL,
    holders=[{"address": EVIL, "owner": EVIL, "state": EVIL, "node": EVIL}],
    nodes=[{"node": EVIL, "state": EVIL, "error": {"code": EVIL, "message": EVIL}}],
)


@pytest.mark.parametrize(
    "fields",
    [{}, {"holders": EVIL}, {"holders": [EVIL]}, {"nodes": {"a": EVIL}}, {"nodes": [{"error": EVIL}]}],
)
async def test_refusals_of_any_shape_are_shown_as_text(tmp_path: Path, fields: dict[str, Any]):
    error = ServiceError(EVIL, EVIL, **fields) if fields else EVIL_ERROR
    refusing = dict.fromkeys((NetworkList, NetworkShow), lambda _: error)
    web = Visited(tmp_path, refusing)  # type: ignore[arg-type]
    async with web.browser() as client:
        for path in ("/networks", "/networks/prod"):
            answer = await client.get(path)
            assert answer.status_code == 409
            check(answer.text)
            assert "&lt;script&gt;" in answer.text


async def test_what_was_typed_is_shown_again_as_text(tmp_path: Path):
    refusal = ServiceError(Code.POOL_EXISTS, EVIL, holders=[{"address": EVIL, "owner": EVIL, "state": EVIL}])
    web = Visited(tmp_path, {PoolCreate: lambda _: refusal, NetworkCreate: lambda _: EVIL_ERROR})
    typed = dict.fromkeys(
        ("network", "driver", "cidr", "cidr6", "gateway", "uplink", "parent", "vlan", "vni", "owners"), EVIL
    )
    app = {"network": "prod", "namespace": "shop", "name": "web", "kind": "StatefulSet", "image": "nginx"}
    async with web.browser() as client:
        made = await sent(client, "/networks", "/networks", **typed)
        exists = await sent(client, "/networks", "/networks", network="dev", cidr="10.2.0.0/24")
        placed = await sent(client, "/apps/new?network=prod", "/apps", **app, replicas="2", size="2")
        mistyped = await sent(
            client, "/apps/new?network=prod", "/apps", **{**app, "image": EVIL, "replicas": EVIL}
        )
    for answer in (made, exists, placed, mistyped):
        assert answer.status_code in {409, 422}
        check(answer.text)
        assert "&lt;script&gt;" in answer.text
