"""What of Kubernetes' Nodes is believed, and of which lives of a node."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from console.cluster.evidence import (
    CONFIRMED_AFTER_S,
    OUT_OF_SERVICE,
    KubernetesNode,
    Record,
    Records,
    deleted,
    done,
    judge,
    read_node,
    relisted,
    request_id,
    seen,
    unheard,
)
from schemas.node import NodeFence, NodeView
from schemas.requests import REQUESTS

FIRST, SECOND = (UUID(f"{number}b8f7a52-6c1e-4a5e-9a65-0f2a4e4f0a11") for number in (0, 1))
NODE = KubernetesNode("node-1", uid="u1", ready=True, out_of_service=False)
OFF = replace(NODE, ready=False)
TAINTED = replace(OFF, out_of_service=True)


def view(state: Any = "lost", session: UUID = FIRST, node: str = "node-1") -> NodeView:
    return NodeView(node=node, state=state, session=session, last_seen=datetime(2026, 3, 1, tzinfo=UTC))


READY, LOST = view("ready"), view("lost")


class Story:
    """One node, told step by step; `fences` are the requests that were to be sent, all of them answered.

    A node that is lost is looked at twice, long enough apart.
    """

    def __init__(self) -> None:
        self.records: Records = {}
        self.now = 0.0
        self.fences: list[NodeFence] = []

    def tell(self, *steps: KubernetesNode | NodeView | str | None) -> list[UUID]:
        """Nodes as the API tells them, "deleted", or Moorage's view. The sessions fenced by then."""
        for step in steps:
            if isinstance(step, KubernetesNode):
                self.records = seen(self.records, step)
            elif isinstance(step, str):
                self.records = deleted(self.records, "node-1")
            elif "node-1" in self.records:
                before = self.records["node-1"]
                if step is not None and step.state == "lost" and before.lost_since is None:
                    before, _ = judge(before, step, self.now)
                self.now += CONFIRMED_AFTER_S
                record, fence = judge(before, step, self.now)
                if fence is not None:
                    self.fences.append(fence)
                    record = done(record)
                self.records = {**self.records, "node-1": record}
        return [fence.session for fence in self.fences]


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_tainted_node_that_is_lost_is_fenced_once(story: Story):
    assert story.tell(NODE, READY, TAINTED, LOST, LOST, TAINTED, LOST) == [FIRST]
    (fence,) = story.fences
    assert OUT_OF_SERVICE in fence.reason
    assert fence.actor == "kubernetes"
    assert REQUESTS["node.fence"].read(fence.model_dump_json().encode()) == fence


def test_a_deleted_node_that_is_lost_is_fenced_once(story: Story):
    assert story.tell(NODE, READY, "deleted", LOST, LOST, "deleted", LOST) == [FIRST]
    assert "deleted" in story.fences[0].reason


@pytest.mark.parametrize("said", [(TAINTED,), ("deleted",), (TAINTED, "deleted")])
def test_a_node_that_is_heard_is_waited_for(story: Story, said: tuple[Any, ...]):
    assert story.tell(NODE, READY, *said, READY, READY) == []
    assert story.tell(LOST) == [FIRST]


def test_a_node_that_is_merely_not_ready_or_lost_is_left_alone(story: Story):
    assert story.tell(NODE, READY, OFF, LOST, NODE, LOST) == []


def test_a_taint_on_a_node_that_kubernetes_hears_says_nothing_yet(story: Story):
    assert story.tell(NODE, READY, replace(TAINTED, ready=True), LOST) == []
    assert story.tell(TAINTED, LOST) == [FIRST]


def test_a_taint_that_was_taken_away_says_nothing(story: Story):
    assert story.tell(NODE, READY, TAINTED, READY, OFF, LOST) == []


def test_a_node_that_was_never_listed_is_left_alone(story: Story):
    assert story.tell("deleted", LOST) == []
    assert story.records == {}


def test_a_node_that_moorage_does_not_know_is_left_alone(story: Story):
    assert story.tell(NODE, TAINTED, None, LOST) == []
    assert story.tell(NODE, "deleted", None) == []


@pytest.mark.parametrize("uid", ["u1", "u2"])
def test_a_deletion_is_void_once_the_node_is_listed_again(story: Story, uid: str):
    assert story.tell(NODE, READY, "deleted", READY, replace(NODE, uid=uid), LOST) == []
    assert story.tell("deleted", LOST) == [FIRST]


@pytest.mark.parametrize("said", [TAINTED, "deleted"])
def test_a_node_that_came_back_under_a_new_session_is_left_alone(story: Story, said: Any):
    back = view("ready", SECOND)
    assert story.tell(NODE, READY, said, READY, back, view("lost", SECOND)) == []


@pytest.mark.parametrize("said", [TAINTED, "deleted"])
def test_a_statement_is_about_the_session_that_was_known_when_it_was_made(story: Story, said: Any):
    assert story.tell(NODE, READY, said, view("lost", SECOND)) == []


def test_a_forgotten_taint_says_nothing_of_the_next_life(story: Story):
    assert story.tell(NODE, READY, TAINTED, LOST) == [FIRST]
    back = replace(TAINTED, ready=True)
    assert story.tell(back, view("ready", SECOND), TAINTED, view("lost", SECOND)) == [FIRST]
    again = (replace(NODE, ready=False), view("lost", SECOND), TAINTED, view("lost", SECOND))
    assert story.tell(*again) == [FIRST, SECOND]


def test_a_taint_is_spent_when_the_node_becomes_ready_under_it_before_it_was_fenced(story: Story):
    assert story.tell(NODE, READY, TAINTED, READY, replace(TAINTED, ready=True), TAINTED, LOST) == []


def test_a_node_that_is_fenced_already_is_not_asked_for_again(story: Story):
    assert story.tell(NODE, TAINTED, view("fenced")) == []


def test_the_deletion_of_a_node_that_was_fenced_for_its_taint_asks_for_nothing_more(story: Story):
    assert story.tell(NODE, READY, TAINTED, LOST, "deleted", view("fenced")) == [FIRST]


def test_a_fence_that_was_not_answered_is_asked_for_again_under_the_same_id():
    record = Record("node-1", "u1", ready=False, out_of_service=True)
    record, none = judge(record, LOST, 0)
    assert none is None
    record, first = judge(record, LOST, CONFIRMED_AFTER_S)
    record, second = judge(record, LOST, CONFIRMED_AFTER_S + 10)
    assert first is not None
    assert first == second
    assert first.request_id == request_id("node-1", FIRST)
    assert len({request_id(node, session) for node in ("a", "b") for session in (FIRST, SECOND)}) == 4


def test_a_node_must_stay_lost_for_two_heartbeats_while_moorage_answers():
    record = Record("node-1", "u1", ready=False, out_of_service=True)
    looks = [(LOST, 0), (LOST, 19.9), (READY, 20), (LOST, 30), (LOST, 49.9)]
    for view_, now in looks:
        record, fence = judge(record, view_, now)
        assert fence is None
    assert judge(record, LOST, 50)[1] is not None
    record = unheard({"node-1": record})["node-1"]
    assert judge(record, LOST, 60)[1] is None


def nodes(*names: str) -> Iterable[KubernetesNode]:
    return [replace(NODE, name=name, uid=name) for name in names]


def off(records: Records) -> set[str]:
    return {name for name, record in records.items() if record.is_due}


def test_a_node_that_a_later_list_lacks_was_deleted():
    records, _ = relisted({}, nodes("a", "b", "c"))
    records, believed = relisted(records, nodes("a", "b"))
    assert believed
    assert off(records) == {"c"}
    records, believed = relisted(records, nodes("a"))
    assert believed
    assert off(records) == {"b", "c"}


@pytest.mark.parametrize("left", [(), ("a",), ("x", "y", "z")])
def test_a_list_that_lacks_most_nodes_at_once_is_not_believed(left: tuple[str, ...]):
    records, _ = relisted({}, nodes("a", "b", "c"))
    records, believed = relisted(records, nodes(*left))
    assert not believed
    assert off(records) == set()
    assert set(records) == set(left)


def test_a_list_may_lack_a_node_that_was_deleted_before():
    records, _ = relisted({}, nodes("a"))
    records = deleted(records, "a")
    records, believed = relisted(records, [])
    assert believed
    assert off(records) == {"a"}


def node(**changes: Any) -> dict[str, Any]:
    about = {"metadata": {"name": "node-1", "uid": "u1"}, "spec": {}, "status": {}}
    return {**about, **changes}


def test_what_counts_of_a_node_is_read():
    taints = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
    conditions = [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "Unknown"}]
    assert read_node(node()) == NODE
    assert read_node(node(spec={"taints": taints})) == NODE
    assert read_node(node(status={"conditions": conditions})) == OFF
    taints.append({"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"})
    assert read_node(node(spec={"taints": taints}, status={"conditions": conditions})) == TAINTED
