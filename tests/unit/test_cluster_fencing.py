"""The loop that fences what Kubernetes says is off, whatever happens to its watch of the API."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from console.cluster.access import connect
from console.cluster.calls import Change, Listing
from console.cluster.client import Cluster
from console.cluster.evidence import CONFIRMED_AFTER_S, OUT_OF_SERVICE
from console.cluster.fencing import Fencing, keep_fencing
from schemas.errors import Code, ServiceError
from schemas.message import Message, Request
from schemas.node import NodeFence, NodeFenced, NodeList, NodePage, NodeView
from tests.kubernetes_api import KubernetesApi, Refusal, kubernetes_api, wait_until
from tests.node_fakes import until

FIRST, SECOND = (UUID(f"{number}b8f7a52-6c1e-4a5e-9a65-0f2a4e4f0a11") for number in (0, 1))
NAMES = ("node-1", "node-2", "node-3")


class Moorage:
    """Knows three nodes, all ready; answers one by one, in pages of two."""

    def __init__(self) -> None:
        self.views = {name: self.view(name) for name in NAMES}
        self.fences: list[NodeFence] = []
        self.listed = 0
        self.failures: list[ServiceError] = []
        self.refusals = 0
        self.order: list[str] = []
        self.broken: str | None = None
        self.away = 0
        """How many requests are not answered from now on."""

    @staticmethod
    def view(name: str, state: Any = "ready", session: UUID = FIRST) -> NodeView:
        return NodeView(node=name, state=state, session=session, last_seen=datetime(2026, 3, 1, tzinfo=UTC))

    def say(self, name: str, state: str, session: UUID = FIRST) -> None:
        self.views[name] = self.view(name, state, session)

    def ask(self, request: Request) -> Message:
        if self.away:
            self.away -= 1
            raise ServiceError(Code.UNAVAILABLE, "the broker is away")
        if isinstance(request, NodeList):
            names = sorted(name for name in self.views if name > (request.after or ""))
            self.listed += 1
            self.order.append("look")
            shown = tuple(self.views[name] for name in names[:2])
            return NodePage(nodes=shown, next=names[1] if len(names) > 2 else None)
        assert isinstance(request, NodeFence)
        self.order.append("fence")
        if request.node == self.broken:
            raise ServiceError(Code.INTERNAL, "a bug")
        if self.failures:
            self.refusals += 1
            raise self.failures.pop(0)
        self.fences.append(request)
        known = self.views[request.node]
        if known.session == request.session:
            self.say(request.node, "fenced", known.session)
        return NodeFenced(node=request.node, session=known.session, fenced=known.session == request.session)

    def looks(self, more: int = 2) -> None:
        """Until the loop has held its records against Moorage's view anew."""
        before = self.listed
        wait_until(lambda: self.listed >= before + 2 * more)

    @property
    def fenced(self) -> list[tuple[str, UUID]]:
        return [(fence.node, fence.session) for fence in self.fences]


def put_node(api: KubernetesApi, name: str, *, ready: bool = True, tainted: bool = False) -> None:
    taints = [{"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}] if tainted else []
    condition = {"type": "Ready", "status": "True" if ready else "Unknown"}
    found = {"metadata": {"name": name}, "spec": {"taints": taints}, "status": {"conditions": [condition]}}
    api.store.put("nodes", found)


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api() as running:
        running.second = 0.1
        for name in NAMES:
            put_node(running, name)
        yield running


@pytest.fixture
def moorage() -> Moorage:
    return Moorage()


@pytest.fixture
def fencing(api: KubernetesApi, moorage: Moorage, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Starts the loop, and returns once it watches."""
    stop, threads = threading.Event(), []

    def start() -> None:
        cluster = Cluster(connect(api.kubeconfig(tmp_path)), timeout_s=20)
        loop = Fencing(cluster, moorage.ask, slice_s=0.3, confirmed_after_s=0.05, pauses_s=(0.01, 0.05))
        threads.append(threading.Thread(target=loop.run, args=(stop,)))
        threads[-1].start()
        watches(api)

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def watches(api: KubernetesApi, more: int = 1) -> None:
    """Until that many more watches have begun."""

    def count() -> int:
        return sum(1 for each in list(api.asked) if each.query.get("watch"))

    before = count()
    wait_until(lambda: count() >= before + more)


def test_a_taint_on_a_node_that_is_lost_fences_it_once(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    fencing()
    put_node(api, "node-1", ready=False, tainted=True)
    moorage.looks()
    assert moorage.fenced == []
    moorage.say("node-1", "lost")
    wait_until(lambda: moorage.fenced)
    put_node(api, "node-1", ready=False, tainted=True)
    moorage.looks()
    assert moorage.fenced == [("node-1", FIRST)]


def test_a_deletion_that_the_watch_tells_fences_the_node_once_it_is_lost(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    fencing()
    api.store.remove("nodes", "node-3")
    moorage.looks()
    assert moorage.fenced == []
    moorage.say("node-3", "lost")
    wait_until(lambda: moorage.fenced)
    moorage.looks()
    assert moorage.fenced == [("node-3", FIRST)]
    assert "deleted" in moorage.fences[0].reason


@pytest.mark.parametrize("way", ["event", "status"])
def test_a_deletion_that_happened_while_changes_were_lost_is_seen_in_the_next_list(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None], way: str
):
    fencing()
    moorage.say("node-2", "lost")
    with api.store.changed:
        api.store.remove("nodes", "node-2")
        api.store.forget()
        if way == "status":
            api.refusals.append(("get", Refusal(410, "too old resource version")))
            api.cut()
    wait_until(lambda: moorage.fenced)
    assert moorage.fenced == [("node-2", FIRST)]


def test_a_watch_that_breaks_off_is_gone_on_with(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    fencing()
    api.cut()
    watches(api)
    lists = sum(1 for each in api.asked if not each.query.get("watch"))
    assert lists == 1
    moorage.say("node-1", "lost")
    put_node(api, "node-1", ready=False, tainted=True)
    wait_until(lambda: moorage.fenced)


def test_an_api_that_refuses_for_a_while_is_asked_again(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    away = Refusal(503, "the server is starting")
    api.refusals += [("get", away)] * 5
    fencing()
    moorage.say("node-1", "lost")
    with api.store.changed:
        api.refusals += [("get", away)] * 5
        api.store.remove("nodes", "node-1")
        api.cut()
    wait_until(lambda: moorage.fenced)
    assert api.refusals == []


def test_nodes_that_were_never_in_the_api_are_left_alone(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    api.store.remove("nodes", "node-1")
    moorage.say("node-1", "lost")
    moorage.say("elsewhere", "lost")
    fencing()
    api.store.forget()
    watches(api, 2)
    moorage.looks()
    assert moorage.fenced == []


def test_a_list_that_suddenly_lacks_most_nodes_fences_none(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    fencing()
    for name in NAMES:
        moorage.say(name, "lost")
    with api.store.changed:
        for name in NAMES[:2]:
            api.store.objects.pop(("nodes", "", name))
        api.store.forget()
    watches(api, 2)
    moorage.looks()
    assert moorage.fenced == []


def test_a_node_that_came_back_under_a_new_session_is_left_alone(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    fencing()
    api.store.remove("nodes", "node-1")
    moorage.looks()
    moorage.say("node-1", "ready", SECOND)
    moorage.looks()
    moorage.say("node-1", "lost", SECOND)
    moorage.looks()
    assert moorage.fenced == []


def test_a_node_that_is_listed_again_is_left_alone(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    fencing()
    api.store.remove("nodes", "node-1")
    moorage.looks()
    put_node(api, "node-1")
    watches(api)
    moorage.say("node-1", "lost")
    moorage.looks()
    assert moorage.fenced == []


def test_a_fence_that_is_not_answered_is_asked_for_again(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    moorage.failures += [ServiceError(Code.TIMEOUT, "late"), ServiceError(Code.UNAVAILABLE, "away")]
    moorage.say("node-1", "lost")
    put_node(api, "node-1", ready=False, tainted=True)
    fencing()
    wait_until(lambda: moorage.fenced)
    moorage.looks()
    assert moorage.fenced == [("node-1", FIRST)]


def test_each_node_is_looked_at_right_before_it_is_fenced(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    moorage.failures.append(ServiceError(Code.TIMEOUT, "late"))
    for name in NAMES:
        moorage.say(name, "lost")
        put_node(api, name, ready=False, tainted=True)
    fencing()
    wait_until(lambda: len(moorage.fences) == len(NAMES))
    order = list(moorage.order)
    assert order.count("fence") == len(NAMES) + 1
    assert all(order[at - 1] == "look" for at, step in enumerate(order) if step == "fence")


def test_a_node_that_cannot_be_fenced_holds_up_no_other(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    moorage.broken = "node-1"
    for name in NAMES:
        moorage.say(name, "lost")
        put_node(api, name, ready=False, tainted=True)
    fencing()
    wait_until(lambda: {fence.node for fence in moorage.fences} == {"node-2", "node-3"})


def test_a_fence_of_a_node_that_was_removed_is_asked_for_once(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    moorage.failures += [ServiceError(Code.NODE_UNKNOWN, "there is no node node-1")] * 9
    moorage.say("node-1", "lost")
    put_node(api, "node-1", ready=False, tainted=True)
    fencing()
    wait_until(lambda: moorage.refusals)
    moorage.looks()
    assert moorage.refusals == 1


def test_a_node_that_was_lost_before_moorage_went_away_has_to_stay_lost_after_it_came_back(
    api: KubernetesApi, moorage: Moorage, tmp_path: Path
):
    now, stop = [0.0], threading.Event()
    put_node(api, "node-1", ready=False, tainted=True)
    moorage.say("node-1", "lost")
    cluster = Cluster(connect(api.kubeconfig(tmp_path)), timeout_s=20)
    loop = Fencing(cluster, moorage.ask, slice_s=0.3, pauses_s=(0.01, 0.05), clock=lambda: now[0])
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        moorage.looks()
        moorage.away = 2
        wait_until(lambda: moorage.away == 0)
        now[0] += CONFIRMED_AFTER_S
        moorage.looks()
        assert moorage.fenced == []
        now[0] += CONFIRMED_AFTER_S
        wait_until(lambda: moorage.fenced)
    finally:
        stop.set()
        thread.join(30)


def test_a_moorage_that_does_not_answer_stops_neither_the_watch_nor_the_fence_later(
    api: KubernetesApi, moorage: Moorage, fencing: Callable[[], None]
):
    fencing()
    moorage.away = 4
    api.store.remove("nodes", "node-1")
    moorage.say("node-1", "lost")
    wait_until(lambda: moorage.fenced)
    assert moorage.away == 0


class Asker:
    """Moorage, asked from an event loop."""

    def __init__(self, moorage: Moorage) -> None:
        self.moorage = moorage

    async def ask(self, request: Request, *, timeout_s: float = 10.0) -> Message:
        return self.moorage.ask(request)


async def test_beside_an_event_loop_it_runs_until_it_is_cancelled(
    api: KubernetesApi, moorage: Moorage, tmp_path: Path
):
    moorage.say("node-1", "lost")
    put_node(api, "node-1", ready=False, tainted=True)
    cluster = Cluster(connect(api.kubeconfig(tmp_path)), timeout_s=20)
    task = asyncio.create_task(keep_fencing(cluster, Asker(moorage), confirmed_after_s=0))
    await until(lambda: moorage.fenced, limit_s=20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: all(thread.name != "fencing" for thread in threading.enumerate()), limit_s=20)


async def test_what_nobody_foresaw_ends_it_with_that_error(moorage: Moorage):
    class Broken:
        def nodes(self) -> Listing:
            raise KeyError("metadata")

        def node_changes(self, version: str, for_s: float) -> Iterator[Change]:
            return iter(())

    with pytest.raises(KeyError):
        await asyncio.wait_for(keep_fencing(Broken(), Asker(moorage)), 20)
