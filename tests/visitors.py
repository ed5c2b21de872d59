"""The page over an allocator that answers from a small world, and browsers that are signed in to it."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from broker.dead_letters.letter import Letter
from console.access.identity import Role
from console.api.application import application
from console.api.guards import RateLimit
from console.api.letters import Letters
from console.page.browser import COOKIE
from schemas.address import AddressList, AddressMap, AddressMapPage, AddressPage, AddressShow, AddressView
from schemas.dead import ReplayPreview, ReplayPreviewed
from schemas.history import HistoryList, HistoryPage
from schemas.message import Request
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView
from schemas.node import NodeList, NodePage
from schemas.pool import PoolList, PoolPage
from schemas.tiles import AddressTiles, TilesView
from tests.console_fakes import URL, Answers
from tests.letters import FakeBox, FakePost
from tests.web import Web

AT = datetime(2026, 3, 1, 14, 5, tzinfo=UTC)
SESSION = UUID("5d2f4a60-0000-4000-8000-000000000001")
EVIL = "<script>alert('x')</script>\"'&"
"""What a page must show as the text that it is, wherever names come from others."""


def network(name: str = "prod", **parts: Any) -> NetworkView:
    """An active network of 10.1.0.0/24 on two nodes."""
    usual: dict[str, Any] = {
        "network": name,
        "definition": {"subnets": [{"cidr": "10.1.0.0/24", "gateway": "10.1.0.1"}]},
        "state": "active",
        "version": 7,
        "total": 253,
        "used": 3,
        "nodes": [{"node": "node-1", "state": "ready"}, {"node": "node-2", "state": "ready"}],
        "node_counts": {"ready": 2},
    }
    return NetworkView.model_validate(usual | parts)


def address(text: str = "10.1.0.7", **parts: Any) -> AddressView:
    """An address that shop/web-0 has on node-1."""
    usual: dict[str, Any] = {
        "network": "prod",
        "pool": "web",
        "policy": "pinned",
        "address": text,
        "state": "attached",
        "since": AT,
        "owner": "shop/web-0",
        "mac": "0a:58:0a:01:00:07",
        "ifname": "eth0",
        "node": "node-1",
        "container_id": "c1",
        "attachment_id": str(SESSION),
    }
    return AddressView.model_validate(usual | parts)


def history_row(**parts: Any) -> dict[str, Any]:
    """That shop/web-0 got 10.1.0.7."""
    usual = {
        "network": "prod",
        "seq": 1,
        "at": AT,
        "event": "address.attached",
        "pool": "web",
        "address": "10.1.0.7",
        "owner": "shop/web-0",
        "node": "node-1",
        "user_id": "node.node-1",
    }
    return usual | parts


def world() -> dict[type[Request], Answers]:
    """What the allocator answers: one network with two pools, an address in each state, two nodes."""
    runs = [
        {"first": "10.1.0.2", "last": "10.1.0.6", "pool": "default", "state": "free", "count": "5"},
        {"first": "10.1.0.7", "last": "10.1.0.7", "pool": "web", "state": "attached", "count": "1"},
        {"first": "10.1.0.8", "last": "10.1.0.8", "pool": "web", "state": "waiting", "count": "1"},
        {"first": "10.1.0.9", "last": "10.1.0.9", "pool": "default", "state": "cooling", "count": "1"},
        {"first": "10.1.0.10", "last": "10.1.0.10", "pool": "default", "state": "quarantined", "count": "1"},
        {"first": "10.1.0.11", "last": "10.1.0.15", "pool": "kept", "state": "reserved", "count": "5"},
        {"first": "10.1.0.16", "last": "10.1.0.254", "pool": "default", "state": "free", "count": "239"},
    ]
    rows = (
        address(),
        address("10.1.0.8", state="waiting", owner="shop/web-1", node=None),
        address("10.1.0.10", state="quarantined", pool="default", policy="shared"),
    )
    pools = [
        pool("default", "shared", ["10.1.0.2-10.1.0.6", "10.1.0.16-10.1.0.254"], total=244, used=1),
        pool("kept", "reserved", ["10.1.0.11-10.1.0.15"], total=5),
        pool("web", "pinned", ["10.1.0.7-10.1.0.8"], total=2, used=2, owners=["shop/web-*"]),
    ]
    node = {"session": str(SESSION), "last_seen": AT, "ready": 1, "errors": 0, "attached": 1}
    nodes = [{"node": "node-1", "state": "ready", **node}, {"node": "node-2", "state": "lost", **node}]
    return {
        NetworkList: lambda _: NetworkPage(networks=(network(),)),
        NetworkShow: lambda asked: network(asked.network),
        PoolList: lambda _: PoolPage.model_validate({"pools": pools}),
        AddressMap: lambda _: AddressMapPage.model_validate({"runs": runs}),
        AddressList: lambda _: AddressPage(addresses=rows),
        AddressShow: lambda _: address(),
        AddressTiles: tiles,
        HistoryList: lambda _: HistoryPage.model_validate({"rows": [history_row()]}),
        NodeList: lambda _: NodePage.model_validate({"nodes": nodes, "database_time": AT}),
        ReplayPreview: lambda _: ReplayPreviewed(prospect="apply"),
    }


def pool(name: str, policy: str, ranges: list[str], **parts: Any) -> dict[str, Any]:
    """A pool as it is listed."""
    usual = {"total": 1, "used": 0, "network": "prod", "pool": name, "policy": policy, "ranges": ranges}
    return {"range_count": len(ranges), **usual, **parts}


def tiles(asked: AddressTiles) -> TilesView:
    """A part as 256 tiles of which the second is half full and the last is not there."""
    prefix = asked.within.prefixlen + 8
    size = 1 << (asked.within.max_prefixlen - prefix)
    full = {"states": {"free": str(size)}, "pools": {"default": str(size)}}
    half = {
        "states": {"free": str(size // 2), "attached": str(size - size // 2)},
        "pools": {"web": str(size)},
    }
    found = [
        {
            "first": str(asked.within.network_address + at * size),
            "total": str(size),
            **(half if at == 1 else full),
        }
        for at in range(255)
    ]
    return TilesView.model_validate(
        {"network": asked.network, "within": asked.within, "tile_prefix": prefix, "tiles": found}
    )


class Visited(Web):
    """A site with dead letters that are in memory, and browsers that look at it."""

    def __init__(
        self,
        folder: Path,
        answers: Mapping[type[Request], Answers] | None = None,
        *,
        letters: Sequence[Letter] = (),
        failures: RateLimit | None = None,
    ) -> None:
        super().__init__(folder, {**world(), **(answers or {})})
        self.box = FakeBox(list(letters))
        self.post = FakePost()

        @asynccontextmanager
        async def open_box(url: str, *, timeout_s: float) -> AsyncIterator[FakeBox]:
            self.box = FakeBox(self.box.left)
            yield self.box

        @asynccontextmanager
        async def open_post(url: str, *, timeout_s: float) -> AsyncIterator[FakePost]:
            yield self.post

        found = Letters(URL, self.site.desk, open_box=open_box, open_post=open_post)  # type: ignore[arg-type]
        self.site = replace(self.site, letters=found, failures=failures or self.site.failures)
        self.app = application(self.site, RateLimit(1e6, 1_000_000))

    def browser(self, role: Role = "operator", *namespaces: str) -> httpx.AsyncClient:
        """A browser that is signed in."""
        cookie = self.site.sign_ins.by_token(self.token(f"a-{role}", role, *namespaces))
        assert cookie is not None
        return self.client(cookies={COOKIE: cookie})

    def asked_of(self, kind: type[Request]) -> list[Any]:
        """The requests of one kind that the allocator was asked."""
        return [asked for asked in self.allocator.asked if isinstance(asked, kind)]


def csrf_of(page: httpx.Response) -> str:
    """What a form of this page has to send along."""
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def sent(client: httpx.AsyncClient, form_at: str, to: str, **values: Any) -> httpx.Response:
    """What comes of a form that the page at `form_at` has."""
    page = await client.get(form_at)
    return await client.post(to, data={"csrf": csrf_of(page), **values})
