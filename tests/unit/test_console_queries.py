"""`moorage node|history`: what is asked, and how the answers read."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from schemas.history import HistoryList, HistoryPage, HistoryRow
from schemas.node import NodeList, NodePage, NodeView
from tests.console_fakes import FakeAllocator, document, run, table

ATTACHMENT = UUID("0b8f7a52-6c1e-4a5e-9a65-0f2a4e4f0a11")
AT = datetime(2026, 3, 1, 14, 5, 33, 987654, UTC)


def test_node_list_tells_when_each_was_last_seen():
    view = NodeView(
        node="node-1", state="lost", session=ATTACHMENT, last_seen=AT, ready=2, errors=1, attached=30
    )
    allocator = FakeAllocator({NodeList: lambda _: NodePage(nodes=[view])})
    assert table(run(allocator, "node", "list")) == [
        ["NODE", "STATE", "LAST SEEN", "ATTACHED", "NETWORKS READY", "FAILED", "SESSION"],
        ["node-1", "lost", "2026-03-01T14:05:33Z", "30", "2", "1", str(ATTACHMENT)],
    ]


def test_no_nodes_says_how_a_node_is_made():
    allocator = FakeAllocator({NodeList: lambda _: NodePage(nodes=())})
    assert "moorage node enroll" in run(allocator, "node", "list").stderr


ROW = HistoryRow(
    network="prod",
    seq=4294967305,
    at=AT,
    event="address.attached",
    pool="web",
    address="10.20.0.10",
    owner="shop/web-0",
    mac="0a:58:0a:14:00:0a",
    ifname="eth0",
    node="node-1",
    container_id="c1",
    attachment_id=ATTACHMENT,
    user_id="node.node-1",
    details={"b": 1, "a": "two"},
)


def history(*options: str) -> tuple[FakeAllocator, object]:
    allocator = FakeAllocator({HistoryList: lambda _: HistoryPage(rows=[ROW])})
    return allocator, run(allocator, "history", "prod", *options)


def test_history_asks_with_its_filters():
    allocator, _ = history(
        *("--address", "10.20.0.10", "--owner", "shop/web-0", "--node", "node-1"),
        *("--attachment-id", str(ATTACHMENT), "--since", "2026-03-01", "--until", "2026-03-02T01:00+01:00"),
    )
    assert allocator.asked == [
        HistoryList(
            network="prod",
            address="10.20.0.10",
            owner="shop/web-0",
            node="node-1",
            attachment_id=ATTACHMENT,
            since=datetime(2026, 3, 1, tzinfo=UTC),
            until=datetime(2026, 3, 2, tzinfo=UTC),
        )
    ]


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2026-03-01T14:05:33Z", datetime(2026, 3, 1, 14, 5, 33, tzinfo=UTC)),
        ("2026-03-01 14:05", datetime(2026, 3, 1, 14, 5, tzinfo=UTC)),
        ("2026-03-01T14:05:33+02:00", datetime(2026, 3, 1, 14, 5, 33, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_a_time_without_a_zone_is_utc(text, means):
    allocator, _ = history("--since", text)
    assert allocator.asked[0].since == means


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_cannot_be_read_names_the_option(option):
    allocator, result = history(option, "yesterday")
    assert result.exit_code == 2
    assert f"{option} yesterday: write a date and time" in result.stderr
    assert allocator.asked == []


def test_history_shows_who_held_the_address_when_and_where():
    _, result = history()
    assert table(result) == [
        [
            *("TIME", "EVENT", "ADDRESS", "OWNER", "NODE", "MAC", "POOL", "IFNAME", "BY"),
            *("CONTAINER", "ATTACHMENT", "SEQ", "DETAILS"),
        ],
        [
            *("2026-03-01T14:05:33Z", "address.attached", "10.20.0.10", "shop/web-0", "node-1"),
            *("0a:58:0a:14:00:0a", "web", "eth0", "node.node-1", "c1", str(ATTACHMENT), "4294967305"),
            '{"a": "two", "b": 1}',
        ],
    ]


def test_history_gives_the_rows_own_json():
    _, result = history("-o", "json")
    assert HistoryPage.model_validate(document(result)) == HistoryPage(rows=[ROW])


def test_history_without_a_match_says_so():
    allocator = FakeAllocator({HistoryList: lambda _: HistoryPage(rows=())})
    assert "Nothing in the history matches" in run(allocator, "history", "prod").stderr
