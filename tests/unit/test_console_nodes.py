"""`moorage node list|fence|remove`: what is asked, and how the answers read."""

from datetime import UTC, datetime
from uuid import UUID

from schemas.node import NodeList, NodePage, NodeView
from tests.console_fakes import FakeAllocator, run, table

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
