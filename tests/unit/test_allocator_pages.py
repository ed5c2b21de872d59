"""History as event messages: what a row says, what a page holds, and rows that cannot be written."""

from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest

from allocator.pages import PAGE_ROWS, pages
from allocator.store.relaying import FIELDS
from allocator.tables import stored
from schemas.history import Events
from schemas.message import MAX_BODY_BYTES

ATTACHMENT = UUID("00000000-0000-4000-8000-000000000001")


def row(seq: int = 1, **fields: Any) -> tuple[Any, ...]:
    """A row as the database gives it."""
    given = {"seq": seq, "at": "2026-03-01T14:05:00.000001Z", "event": "address.freed", "details": "{}"}
    return tuple((given | fields).get(name) for name in FIELDS)


def read(*rows: Any, network: str = "prod", after: int = 0) -> list[Events]:
    bodies = list(pages(network, after, rows))
    assert all(len(body) <= MAX_BODY_BYTES for body in bodies)
    return [Events.model_validate_json(body) for body in bodies]


def test_a_row_says_all_that_history_knows():
    fields = {
        "pool": "api",
        "address": stored(ip_address("10.1.0.10")),
        "owner": "bank/api-0",
        "mac": "0a:58:0a:01:00:0a",
        "ifname": "eth0",
        "node": "n1",
        "container_id": "c1",
        "attachment_id": ATTACHMENT.bytes,
        "user_id": "node.n1",
        "actor": 'somebody "else" ü',
        "details": '{"replaces": ["x"], "total": 340282366920938463463374607431768211456}',
    }
    ((said,),) = (events.rows for events in read(row(7, **fields)))
    assert said.model_dump(mode="json") == {
        "network": "prod",
        "seq": 7,
        "at": "2026-03-01T14:05:00.000001Z",
        "event": "address.freed",
        **fields,
        "address": "10.1.0.10",
        "attachment_id": str(ATTACHMENT),
        "details": {"replaces": ["x"], "total": 1 << 128},
    }


@pytest.mark.parametrize("text", ["10.0.0.0", "255.255.255.255", "fd00:1::10", "::", "::a00:7", "ff02::1:3"])
def test_an_address_is_written_as_it_is_everywhere_else(text: str):
    ((said,),) = (events.rows for events in read(row(address=stored(ip_address(text)))))
    assert str(said.address) == text


def test_what_a_row_does_not_have_is_left_out():
    (body,) = pages("prod", 0, [row(5)])
    assert body == (
        b'{"network":"prod","after":0,"rows":[{"seq":5,"at":"2026-03-01T14:05:00.000001Z",'
        b'"event":"address.freed","network":"prod"}]}'
    )


def test_a_page_ends_at_its_number_of_rows():
    found = read(*(row(seq) for seq in range(1, 2 * PAGE_ROWS + 2)))
    assert [len(events.rows) for events in found] == [PAGE_ROWS, PAGE_ROWS, 1]
    assert [events.after for events in found] == [0, PAGE_ROWS, 2 * PAGE_ROWS]


@pytest.mark.parametrize("length", [30_000, 65_000, 65_200, 65_300, 66_000, 1_000_000])
def test_a_page_ends_before_it_is_too_large(length: int):
    long = f'{{"text": "{"x" * length}"}}'
    found = read(*(row(seq, details=long) for seq in range(1, 4)), network="n" * 63)
    assert [said.seq for events in found for said in events.rows] == [1, 2, 3]


def test_no_rows_are_no_message():
    assert read() == []


@pytest.mark.parametrize(
    "broken",
    [
        {"details": "no JSON"},
        {"details": None},
        {"details": '{"n": NaN}'},
        {"address": b"short"},
        {"attachment_id": b"short"},
        {"owner": "\ud800"},
        {"node": object()},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_a_row_that_cannot_be_written_goes_as_what_can_be_said_of_it(broken: dict[str, Any]):
    (events,) = read(row(1), row(2, pool="api", **broken), row(3))
    assert [said.seq for said in events.rows] == [1, 2, 3]
    assert events.rows[1].pool == "api"
    assert events.rows[1].event == "address.freed"
