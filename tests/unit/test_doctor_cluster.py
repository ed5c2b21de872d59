"""What the doctor makes of the allocator's answers."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cni.places import Places
from compose.doctor import cluster_checks, database_checks
from compose.doctor import site as site_module
from compose.doctor.site import Questions, Site
from compose.doctor.verdict import Skipped
from compose.settings import Settings
from schemas.address import AddressList, AddressPage
from schemas.history import HistoryList, HistoryPage
from schemas.message import Message, Query
from schemas.network import NetworkList, NetworkPage
from schemas.node import NodeList, NodePage
from schemas.pool import PoolList, PoolPage

NOW = datetime(2026, 3, 1, 14, 5, tzinfo=UTC)


class FakeQuestions:
    """An allocator that has these nodes, networks, addresses and pools."""

    def __init__(self, **content: list[dict[str, Any]]) -> None:
        self.content = content
        self.since = NOW
        self.now: datetime | None = NOW

    def _rows(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        return [
            row
            for row in self.content.get(name, [])
            if all(row.get(key) == value for key, value in filters.items() if value is not None)
        ]

    def ask(self, query: Query, answer: type[Message]) -> Any:
        match query:
            case NodeList():
                return NodePage.model_validate({"nodes": self._rows("nodes"), "database_time": self.now})
            case NetworkList():
                return NetworkPage.model_validate({"networks": self._rows("networks")})
            case AddressList():
                rows = self._rows("addresses", network=query.network, node=query.node, state=query.state)
                return AddressPage.model_validate({"addresses": rows[: query.limit]})
            case PoolList():
                return PoolPage.model_validate({"pools": self._rows("pools", network=query.network)})
            case HistoryList():
                row = {"network": query.network, "seq": 1, "at": self.since, "event": "network.deleting"}
                return HistoryPage.model_validate({"rows": [row]})
        raise AssertionError(query)

    def each(self, queries: list[Query], answer: type[Message]) -> list[Any]:
        return [self.ask(query, answer) for query in queries]

    def pages(self, queries: list[Query], answer: type[Message]) -> tuple[list[Any], bool]:
        return self.each([query.model_copy(update={"limit": 500}) for query in queries], answer), True


class FakeSite(Site):
    """A site whose allocator is the one given."""

    def __init__(self, questions: FakeQuestions) -> None:
        super().__init__(Settings(), Places(Path("/b"), Path("/c"), Path("/s")))
        object.__setattr__(self, "_questions", questions)

    def asking(self) -> Any:
        return self._questions  # type: ignore[attr-defined]


def node(name: str, state: str = "ready", attached: int = 0) -> dict[str, Any]:
    return {"node": name, "state": state, "session": UUID(int=1), "last_seen": NOW, "attached": attached}


def network(name: str, state: str = "active", **counts: int) -> dict[str, Any]:
    definition = {"subnets": [{"cidr": "10.1.0.0/24"}]}
    return {"network": name, "definition": definition, "state": state, "version": 1, "node_counts": counts}


def address(last: int, on: str) -> dict[str, Any]:
    place = {"network": "prod", "pool": "web", "policy": "pinned", "address": f"10.1.0.{last}", "since": NOW}
    return place | {"state": "attached", "owner": f"shop/web-{last}", "node": on}


def pool(name: str, used: int, policy: str = "shared") -> dict[str, Any]:
    view = {"network": "prod", "pool": name, "policy": policy, "range_count": 1}
    return view | {"total": 10, "used": used}


def test_a_lost_node_is_told_with_how_to_declare_it_off():
    site = FakeSite(FakeQuestions(nodes=[node("n1"), node("n2", "lost", 3)]))
    said = cluster_checks.nodes(site)
    assert (said.state, said.found) == ("warn", "n2 lost since 2026-03-01T14:05:00Z, 3 attached")
    assert "`moorage node fence n2 --reason TEXT`" in said.advice


def test_nodes_that_are_heard_or_fenced_are_well():
    said = cluster_checks.nodes(FakeSite(FakeQuestions(nodes=[node("n1"), node("n2", "fenced")])))
    assert (said.state, said.found) == ("ok", "1 ready, 1 fenced")


def test_addresses_on_a_lost_node_are_named_with_their_owners():
    held = [address(last, "n2") for last in range(10, 20)] + [address(30, "n1")]
    known = [node("n1", attached=1), node("n2", "lost", 10)]
    said = cluster_checks.addresses(
        FakeSite(FakeQuestions(nodes=known, networks=[network("prod")], addresses=held))
    )
    assert said.state == "warn"
    assert said.found.startswith("10 pods on n2: 10.1.0.10 of shop/web-10 on n2 (prod); ")
    assert "moorage node fence n2" in said.advice


def test_addresses_on_a_node_that_nobody_knows_are_a_failure():
    held = [address(10, "n9")]
    site = FakeSite(FakeQuestions(nodes=[node("n1")], networks=[network("prod")], addresses=held))
    said = cluster_checks.addresses(site)
    assert (said.state, said.found) == ("fail", "10.1.0.10 of shop/web-10 on n9 (prod)")


def test_addresses_on_nodes_that_are_heard_are_well():
    held = [address(10, "n1")]
    site = FakeSite(FakeQuestions(nodes=[node("n1", attached=1)], networks=[network("prod")], addresses=held))
    assert cluster_checks.addresses(site).state == "ok"


@pytest.mark.parametrize(
    ("known", "ago", "state", "says"),
    [
        (network("a"), 0, "ok", "1 network, on all nodes"),
        (network("a", "failed"), 0, "fail", "failed: a"),
        (network("a", "deleting"), 60, "ok", "1 network"),
        (network("a", "deleting"), 3600, "warn", "a is deleting for over 10 minutes"),
        (network("a", "creating"), 3600, "warn", "a is creating"),
        (network("a", error=2, ready=1), 0, "warn", "a not on 2 nodes"),
    ],
)
def test_networks_that_failed_or_are_stuck_are_told(known, ago: int, state: str, says: str):
    questions = FakeQuestions(networks=[known])
    questions.since = NOW - timedelta(seconds=ago)
    said = cluster_checks.networks(FakeSite(questions))
    assert said.state == state
    assert says in said.found


def test_a_pool_that_is_nearly_exhausted_is_told():
    known = [pool("web", 9), pool("db", 8), pool("taken", 10, "reserved")]
    said = cluster_checks.pools(FakeSite(FakeQuestions(networks=[network("prod")], pools=known)))
    assert (said.state, said.found) == ("warn", "pool web of prod has 9 of 10 in use")
    assert "moorage pool resize prod web" in said.advice


@pytest.mark.parametrize(
    ("off_s", "state", "says"),
    [
        (0, "ok", "as the database's"),
        (3, "warn", "3.0 s behind the database"),
        (-3, "warn", "s ahead of the database"),
        (40, "fail", "40.0 s behind the database"),
    ],
)
def test_the_clock_is_compared_with_the_database_s(monkeypatch, off_s: int, state: str, says: str):
    questions = FakeQuestions()
    questions.now = NOW + timedelta(seconds=off_s)
    monkeypatch.setattr(database_checks.time, "time", NOW.timestamp)
    said = database_checks.clock(FakeSite(questions))
    assert said.state == state
    assert says in said.found


def test_an_older_allocator_tells_no_time():
    questions = FakeQuestions()
    questions.now = None
    with pytest.raises(Skipped, match="older version"):
        database_checks.clock(FakeSite(questions))


def test_a_node_s_user_is_told_that_it_may_not_ask():
    url = "amqp://node.n1:x@127.0.0.1:1/%2F"
    site = Site(Settings(amqp_url=url), Places(Path("/b"), Path("/c"), Path("/s")))
    with pytest.raises(Skipped, match=r"node\.n1 may ask .* operator's"):
        cluster_checks.nodes(site)


class Client:
    """A client of an allocator with so many pages of nodes."""

    def __init__(self, pages: int, clock: Any) -> None:
        self.pages, self.clock, self.asked = pages, clock, 0

    async def ask(self, query: Query, *, timeout_s: float) -> NodePage:
        self.asked += 1
        self.clock.now += 1
        return NodePage(nodes=(), next=str(self.asked) if self.asked < self.pages else None)


class Clock:
    """A second passes with each page."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("pages", "read", "complete"), [(2, 2, True), (9, 3, False)])
def test_a_check_reads_on_for_a_limited_time(monkeypatch, pages: int, read: int, complete: bool):
    clock = Clock()
    client = Client(pages, clock)

    @asynccontextmanager
    async def connected(url: str, *, name: str):
        yield client

    monkeypatch.setattr(site_module, "rpc_client", connected)
    monkeypatch.setattr(site_module, "time", clock)
    found, all_seen = Questions("amqp://x").pages([NodeList()], NodePage)
    assert (len(found), all_seen) == (read, complete)
