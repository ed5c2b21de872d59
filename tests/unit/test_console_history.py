"""`moorage history`: what is asked, and how the answers read."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from schemas.errors import Code, ServiceError
from schemas.history import HistoryList, HistoryPage, HistoryRow
from tests.console_fakes import FakeAllocator, document, run, table

ATTACHMENT = UUID("0b8f7a52-6c1e-4a5e-9a65-0f2a4e4f0a11")
AT = datetime(2026, 3, 1, 14, 5, 33, 987654, UTC)


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
    actor="ann",
    details={"b": 1, "a": "two"},
)


def history(*options: str) -> tuple[FakeAllocator, object]:
    allocator = FakeAllocator({HistoryList: lambda _: HistoryPage(rows=[ROW])})
    return allocator, run(allocator, "history", "prod", *options)


def test_history_asks_with_its_filters():
    allocator, _ = history(
        *("--address", "10.20.0.10", "--owner", "shop/web-0", "--node", "node-1"),
        *(
            "--container",
            "c1",
            "--newest-first",
            "--attachment-id",
            str(ATTACHMENT),
            "--since",
            "2026-03-01",
            "--until",
            "2026-03-02T01:00+01:00",
        ),
    )
    assert allocator.asked == [
        HistoryList(
            network="prod",
            address="10.20.0.10",
            owner="shop/web-0",
            node="node-1",
            container_id="c1",
            attachment_id=ATTACHMENT,
            newest_first=True,
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
            *("ACTOR", "CONTAINER", "ATTACHMENT", "SEQ", "DETAILS"),
        ],
        [
            *("2026-03-01T14:05:33Z", "address.attached", "10.20.0.10", "shop/web-0", "node-1"),
            *("0a:58:0a:14:00:0a", "web", "eth0", "node.node-1", "ann", "c1"),
            *(str(ATTACHMENT), "4294967305"),
            '{"a": "two", "b": 1}',
        ],
    ]


def test_history_gives_the_rows_own_json():
    _, result = history("-o", "json")
    assert HistoryPage.model_validate(document(result)) == HistoryPage(rows=[ROW])


def test_history_without_a_match_says_so():
    allocator = FakeAllocator({HistoryList: lambda _: HistoryPage(rows=())})
    assert "Nothing in the history matches" in run(allocator, "history", "prod").stderr


def test_history_is_oldest_first_unless_something_else_is_said():
    allocator, _ = history()
    assert allocator.asked == [HistoryList(network="prod")]


def test_the_latest_rows_are_asked_for_by_the_limit():
    allocator, _ = history("--newest-first", "--limit", "5")
    assert allocator.asked == [HistoryList(network="prod", newest_first=True, limit=5)]


FENCED = HistoryRow(
    network="_system",
    seq=12,
    at=AT,
    event="node.fenced",
    node="node-1",
    user_id="console.ops",
    actor="ann",
    details={"reason": "power supply burnt"},
)


@pytest.mark.parametrize("command", [("--nodes", "--node", "node-1"), ("_system", "--node", "node-1")])
def test_the_history_of_nodes_shows_what_nodes_have(command):
    allocator = FakeAllocator({HistoryList: lambda _: HistoryPage(rows=[FENCED])})
    result = run(allocator, "history", *command)
    assert allocator.asked == [HistoryList(network="_system", node="node-1")]
    assert table(result) == [
        ["TIME", "EVENT", "NODE", "BY", "ACTOR", "SEQ", "DETAILS"],
        [
            *("2026-03-01T14:05:33Z", "node.fenced", "node-1", "console.ops", "ann", "12"),
            '{"reason": "power supply burnt"}',
        ],
    ]


@pytest.mark.parametrize("command", [(), ("prod", "--nodes")])
def test_history_is_of_one_network_or_of_nodes(command):
    allocator = FakeAllocator({})
    result = run(allocator, "history", *command, "-o", "json")
    assert result.exit_code == 2
    assert "name a NETWORK, or --nodes for what happened to nodes" in result.stderr
    assert document(result)["error"]["code"] == "invalid_request"


def test_the_history_of_an_unknown_network_is_a_refusal():
    allocator = FakeAllocator({HistoryList: lambda _: ServiceError(Code.NETWORK_UNKNOWN, "no prod here")})
    assert run(allocator, "history", "prod").exit_code == 1
