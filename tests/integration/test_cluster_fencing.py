"""A Node's taint and deletion in Kubernetes, on the real database: who may come up elsewhere, and when."""

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from broker.outcome import Refused, Reply
from console.cluster.access import connect
from console.cluster.client import Cluster
from console.cluster.evidence import OUT_OF_SERVICE
from console.cluster.fencing import Fencing
from schemas.errors import Code
from schemas.history import HistoryList
from schemas.message import Message, Request
from schemas.node import NodeSync
from tests.integration.allocating import Asked, only
from tests.integration.test_allocator_nodes import beat, fall_silent, states
from tests.kubernetes_api import KubernetesApi, kubernetes_api, wait_until

pytestmark = pytest.mark.services


def put_node(api: KubernetesApi, name: str, *, off: bool = False) -> None:
    taints = [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}] if off else []
    conditions = [{"type": "Ready", "status": "Unknown" if off else "True"}]
    api.store.put(
        "nodes",
        {"metadata": {"name": name}, "spec": {"taints": taints}, "status": {"conditions": conditions}},
    )


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Nodes n1, n2 and n3, and network prod with a pinned pool."""
    made = Asked(engine, nodes=("n1", "n2", "n3"))
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    return made


class Moorage:
    """The allocator, asked from the loop's thread."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.looks = 0

    def ask(self, request: Request) -> Message:
        outcome = self._asked.send(request, user="console.test")
        if isinstance(outcome, Refused):
            raise outcome.error
        assert isinstance(outcome, Reply)
        self.looks += request.NAME == "node.list"
        return outcome.message

    def look(self) -> None:
        """Until the loop has held what it saw against the database anew."""
        before = self.looks
        wait_until(lambda: self.looks >= before + 2)


@pytest.fixture
def moorage(asked: Asked) -> Moorage:
    return Moorage(asked)


@pytest.fixture
def api(moorage: Moorage, tmp_path: Path) -> Iterator[KubernetesApi]:
    """A cluster of the three nodes, watched."""
    stop = threading.Event()
    with kubernetes_api() as running:
        running.second = 0.1
        for name in ("n1", "n2", "n3"):
            put_node(running, name)
        cluster = Cluster(connect(running.kubeconfig(tmp_path)), timeout_s=20)
        loop = Fencing(cluster, moorage.ask, slice_s=0.3, confirmed_after_s=0.05, pauses_s=(0.01, 0.05))
        thread = threading.Thread(target=loop.run, args=(stop,))
        thread.start()
        moorage.look()
        yield running
        stop.set()
        thread.join(30)
        cluster.close()


@pytest.mark.parametrize("way", ["taint", "deletion"])
def test_owners_of_a_node_that_is_off_come_up_elsewhere_with_their_addresses(
    api: KubernetesApi, asked: Asked, moorage: Moorage, engine: Engine, way: str
):
    address = only(asked.attach("shop/web-0", "n1"))
    if way == "taint":
        put_node(api, "n1", off=True)
    else:
        api.store.remove("nodes", "n1")
    moorage.look()
    assert states(asked)["n1"] == "ready"
    assert asked.refusal(asked.ask("shop/web-0", "n2")).code == Code.OWNER_ATTACHED_ELSEWHERE
    fall_silent(asked, engine, "n1")
    wait_until(lambda: states(asked)["n1"] == "fenced")
    assert only(asked.attach("shop/web-0", "n2")) == address
    rows = asked.reply(HistoryList(network="_system", node="n1", limit=100)).rows
    (fenced,) = [row for row in rows if row.event == "node.fenced"]
    assert (fenced.user_id, fenced.actor) == ("console.test", "kubernetes")
    assert ("deleted" if way == "deletion" else OUT_OF_SERVICE) in fenced.details["reason"]


def test_a_node_that_lives_on_keeps_its_owners_whatever_kubernetes_says(
    api: KubernetesApi, asked: Asked, moorage: Moorage, engine: Engine
):
    asked.attach("shop/web-0", "n1")
    api.store.remove("nodes", "n1")
    moorage.look()
    fall_silent(asked, engine, "n2")
    beat(asked, "n1")
    moorage.look()
    assert states(asked) == {"n1": "ready", "n2": "lost", "n3": "ready"}
    assert asked.refusal(asked.ask("shop/web-0", "n2")).code == Code.OWNER_ATTACHED_ELSEWHERE


def test_a_node_that_came_back_under_another_session_keeps_what_it_attached_since(
    api: KubernetesApi, asked: Asked, moorage: Moorage, engine: Engine
):
    api.store.remove("nodes", "n1")
    moorage.look()
    asked.reply(NodeSync(node="n1", session=uuid4()))
    asked.attach("shop/web-0", "n1")
    moorage.look()
    fall_silent(asked, engine, "n1")
    moorage.look()
    assert states(asked)["n1"] == "lost"
    assert asked.refusal(asked.ask("shop/web-0", "n2")).code == Code.OWNER_ATTACHED_ELSEWHERE
