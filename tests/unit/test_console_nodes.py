"""`moorage node list|fence|remove`: what is asked, and how the answers read."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas.errors import Code, ServiceError
from schemas.message import Done
from schemas.node import NodeFence, NodeFenced, NodeList, NodePage, NodeRemove, NodeView
from tests.console_fakes import ACTOR, CTRL_C, FakeAllocator, document, run, run_at_a_terminal, table

SESSION = UUID("0b8f7a52-6c1e-4a5e-9a65-0f2a4e4f0a11")
AT = datetime(2026, 3, 1, 14, 5, 33, 987654, UTC)


def test_node_list_tells_when_each_was_last_seen():
    view = NodeView(
        node="node-1", state="lost", session=SESSION, last_seen=AT, ready=2, errors=1, attached=30
    )
    allocator = FakeAllocator({NodeList: lambda _: NodePage(nodes=[view])})
    assert table(run(allocator, "node", "list")) == [
        ["NODE", "STATE", "LAST SEEN", "ATTACHED", "NETWORKS READY", "FAILED", "SESSION"],
        ["node-1", "lost", "2026-03-01T14:05:33Z", "30", "2", "1", str(SESSION)],
    ]


def test_no_nodes_says_how_a_node_is_made():
    allocator = FakeAllocator({NodeList: lambda _: NodePage(nodes=())})
    assert "moorage node enroll" in run(allocator, "node", "list").stderr


OTHER = UUID("1b8f7a52-6c1e-4a5e-9a65-0f2a4e4f0a11")
FENCE = ("node", "fence", "node-1", "--reason", "power supply burnt")
LOST = NodeView(node="node-1", state="lost", session=SESSION, last_seen=AT, attached=30)
READY = LOST.model_copy(update={"state": "ready"})
FENCED = NodeFenced(node="node-1", session=SESSION, fenced=True, released=30)


def fencing(seen: NodeView = LOST, answer: object = FENCED) -> FakeAllocator:
    """An allocator that lists `seen` on its second page of nodes."""
    first = NodePage(nodes=[LOST.model_copy(update={"node": "node-0", "session": OTHER})], next="node-0")
    return FakeAllocator(
        {
            NodeList: lambda query: NodePage(nodes=[seen]) if query.after else first,
            NodeFence: lambda _: answer,
        }
    )


def fences(allocator: FakeAllocator) -> list[NodeFence]:
    return [request for request in allocator.asked if isinstance(request, NodeFence)]


def asked_for(session: UUID) -> NodeFence:
    return NodeFence(request_id="a", actor=ACTOR, node="node-1", session=session, reason="power supply burnt")


def test_fence_names_the_nodes_present_session():
    allocator = fencing()
    result = run(allocator, *FENCE, "--yes", "--request-id", "a")
    assert fences(allocator) == [asked_for(SESSION)]
    assert result.exit_code == 0
    assert table(result) == [
        ["node", "node-1"],
        ["session", str(SESSION)],
        ["fenced", "yes"],
        ["released", "30 addresses"],
    ]


def test_fence_tells_what_it_means():
    said = run(fencing(), *FENCE, "--yes").stderr
    assert f"state lost, last seen 2026-03-01T14:05:33Z, session {SESSION}" in said
    assert "30 addresses now" in said
    assert "Nothing checks that it is off" in said
    assert "WARNING" not in said


def test_fence_of_a_node_whose_heartbeats_arrive_warns():
    result = run(fencing(READY), *FENCE, "--yes")
    assert result.exit_code == 0
    assert "WARNING: node-1 is ready: its heartbeats arrive, so it is NOT off" in result.stderr


def test_fence_gives_the_answers_own_json():
    assert NodeFenced.model_validate(document(run(fencing(), *FENCE, "-y", "-o", "json"))) == FENCED


def test_fence_of_a_session_that_is_named_is_of_that_one():
    allocator = fencing(READY, FENCED.model_copy(update={"fenced": False, "released": 0}))
    result = run(allocator, *FENCE, "--session", str(OTHER).upper(), "--yes", "--request-id", "a")
    assert fences(allocator) == [asked_for(OTHER)]
    assert f"node-1 is by now in session {SESSION}: fencing another one changes nothing" in result.stderr
    assert "WARNING" not in result.stderr


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_fence_that_came_too_late_is_no_success(output):
    late = FENCED.model_copy(update={"fenced": False, "released": 0})
    result = run(fencing(answer=late), *FENCE, "--yes", "-o", output)
    assert result.exit_code == 1
    assert "Nothing was changed: node-1 has come back under another session" in result.stderr
    if output == "json":
        assert NodeFenced.model_validate(document(result)) == late
    else:
        assert ["fenced", "no"] in table(result)


@pytest.mark.parametrize("typed", ["y\n", "yes\n"])
def test_fence_at_a_terminal_is_carried_out_after_a_yes(typed):
    allocator = fencing(READY)
    result = run_at_a_terminal(allocator, typed, *FENCE)
    assert result.exit_code == 0
    assert len(fences(allocator)) == 1
    warned, asked = (
        result.stderr.index("WARNING"),
        result.stderr.index("Is node-1 off, and shall it be fenced?"),
    )
    assert warned < asked


@pytest.mark.parametrize("typed", ["n\n", "\n", "", CTRL_C])
def test_fence_at_a_terminal_changes_nothing_without_a_yes(typed):
    allocator = fencing()
    assert run_at_a_terminal(allocator, typed, *FENCE).exit_code == 1
    assert fences(allocator) == []


@pytest.mark.parametrize("command", [FENCE, ("node", "remove", "node-1")])
def test_without_a_terminal_a_yes_is_needed_before_anything_is_asked(command):
    allocator = FakeAllocator({})
    result = run(allocator, *command)
    assert result.exit_code == 2
    assert "add --yes" in result.stderr


def test_fence_of_a_node_that_nobody_knows_says_where_to_look():
    allocator = fencing()
    result = run(allocator, "node", "fence", "node-9", "--reason", "gone", "--yes", "-o", "json")
    assert result.exit_code == 1
    assert document(result)["error"]["code"] == "node_unknown"
    assert "moorage node list" in result.stderr
    assert fences(allocator) == []


def test_fence_needs_a_reason_and_a_session_that_can_be():
    assert run(fencing(), "node", "fence", "node-1", "--yes").exit_code == 2
    allocator = fencing()
    result = run(allocator, *FENCE, "--session", "latest", "--yes")
    assert result.exit_code == 2
    assert "session: Input should be a valid UUID" in result.stderr
    assert fences(allocator) == []


def test_a_fence_of_unknown_outcome_is_repeated_for_the_session_that_was_seen():
    result = run(fencing(answer=ServiceError(Code.TIMEOUT, "late")), *FENCE, "--yes", "--request-id", "a")
    assert result.exit_code == 3
    assert f"again with --request-id a --session {SESSION}: however often" in result.stderr


def removing(answer: object) -> FakeAllocator:
    return FakeAllocator({NodeRemove: lambda _: answer})


def test_remove_with_yes_asks_nobody():
    allocator = removing(Done())
    result = run(allocator, "node", "remove", "node-1", "--yes", "--request-id", "a")
    assert allocator.asked == [NodeRemove(request_id="a", actor=ACTOR, node="node-1")]
    assert (result.exit_code, result.stdout, result.stderr) == (0, "node node-1 is removed\n", "")
    assert document(run(removing(Done()), "node", "remove", "node-1", "-y", "-o", "json")) == {}


def test_remove_at_a_terminal_asks_first():
    allocator = removing(Done())
    assert run_at_a_terminal(allocator, "n\n", "node", "remove", "node-1").exit_code == 1
    assert allocator.asked == []
    result = run_at_a_terminal(allocator, "y\n", "node", "remove", "node-1")
    assert result.exit_code == 0
    assert "Forget node node-1? [y/N]" in result.stderr
    assert len(allocator.asked) == 1


def test_remove_of_a_node_in_use_is_a_refusal():
    error = ServiceError(Code.NODE_IN_USE, "node-1 is ready: fence it first")
    result = run(removing(error), "node", "remove", "node-1", "--yes")
    assert (result.exit_code, result.stderr) == (1, "error: node-1 is ready: fence it first (node_in_use)\n")


def test_a_node_name_that_cannot_be_is_refused_before_the_question():
    result = run_at_a_terminal(FakeAllocator({}), "y\n", "node", "remove", "Node_1")
    assert result.exit_code == 2
    assert "[y/N]" not in result.stderr
