"""What a soak finds when kernel, journals, database and runtime do not agree; each planted here once."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from bench.soak.agreement import Pod, Record, Snapshot, differences
from bench.soak.sandbox import Told
from bench.soak.sightings import Look

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
TEN, ELEVEN = ip_address("10.0.0.10"), ip_address("10.0.0.11")
MAC, OTHER_MAC = "0a:58:0a:00:00:0a", "0a:58:0a:00:00:0b"
WHO = {"owner": "shop/web-0", "network": "prod", "node": "node-1", "container_id": "c1"}
POD = Pod(**WHO, told=Told(frozenset({TEN}), MAC))
LOOK = Look(at=NOW, until=NOW, **WHO, addresses=frozenset({TEN}), mac=MAC, carrier=True)
RECORD = Record(
    **WHO, attachment_id="a1", host_link="mo1", state="attached", addresses=frozenset({TEN}), mac=MAC
)
RIGHT = Snapshot(
    pods=(POD,),
    looks={"c1": LOOK},
    host_links={"node-1": frozenset({"mo1"})},
    bridges={"node-1": frozenset({"mo-prod"})},
    networks={"node-1": frozenset({"mo-prod"})},
    journals={"node-1": (RECORD,)},
    owed={"node-1": 0},
    database=(RECORD,),
    queues={"moorage.allocator.0": 0},
)


def found(**changes: Any) -> set[str]:
    """Which rules are broken once these parts of a right snapshot have changed."""
    return {violation.rule for violation in differences(replace(RIGHT, **changes))}


def test_nothing_is_found_where_all_agree() -> None:
    assert found() == set()


def test_nothing_is_found_where_nothing_is() -> None:
    assert differences(Snapshot()) == []


@pytest.mark.parametrize(
    "look",
    [
        None,
        replace(LOOK, addresses=frozenset()),
        replace(LOOK, addresses=frozenset({ELEVEN})),
        replace(LOOK, carrier=False),
        replace(LOOK, mac=OTHER_MAC),
    ],
)
def test_a_kernel_that_differs_is_found(look: Look | None) -> None:
    assert found(looks={"c1": look} if look else {}) == {"kernel and runtime differ"}


WRONG = [
    replace(RECORD, state="wiring"),
    replace(RECORD, addresses=frozenset({TEN, ELEVEN})),
    replace(RECORD, mac=OTHER_MAC),
    replace(RECORD, owner="shop/web-1"),
    replace(RECORD, node="node-2"),
    replace(RECORD, network="other"),
]


@pytest.mark.parametrize("record", WRONG)
def test_a_journal_that_differs_is_found(record: Record) -> None:
    assert found(journals={"node-1": (record,)}) == {"journal and runtime differ"}


@pytest.mark.parametrize("record", WRONG)
def test_a_database_that_differs_is_found(record: Record) -> None:
    assert found(database=(record,)) == {"database and runtime differ"}


def test_a_pod_that_the_database_does_not_have_is_found() -> None:
    assert found(database=()) == {"database and runtime differ"}


def test_a_pod_that_the_journal_does_not_have_is_found() -> None:
    assert "journal and runtime differ" in found(journals={"node-1": ()})


def test_another_attachment_of_the_same_pod_is_found() -> None:
    assert found(database=(replace(RECORD, attachment_id="a2"),)) == {"journal and database differ"}


def test_a_host_link_that_is_missing_is_found() -> None:
    assert found(host_links={"node-1": frozenset()}) == {"kernel and journal differ"}


LEFT = replace(RECORD, container_id="c2", attachment_id="a2", host_link="mo2")


def test_a_row_without_a_pod_is_found_in_the_database() -> None:
    assert found(database=(RECORD, LEFT)) == {"an attachment without a pod is left"}


def test_a_row_without_a_pod_is_found_in_a_journal() -> None:
    assert found(journals={"node-1": (RECORD, LEFT)}) == {"an attachment without a pod is left"}


def test_a_link_without_a_pod_is_found() -> None:
    assert found(host_links={"node-1": frozenset({"mo1", "mo2"})}) == {"a link without a pod is left"}


@pytest.mark.parametrize("there", [{"mo-prod", "mo-brief"}, set()])
def test_a_link_of_a_network_that_is_left_or_missing_is_found(there: set[str]) -> None:
    assert found(bridges={"node-1": frozenset(there)}) == {"a node's networks are not as they must be"}


def test_a_release_that_is_owed_is_found() -> None:
    assert found(owed={"node-1": 1}) == {"a release was never answered"}


def test_a_request_without_an_answer_is_found() -> None:
    assert found(unanswered=("network.create 1",)) == {"an accepted request has no answer"}


def test_a_message_that_is_left_in_a_queue_is_found() -> None:
    assert found(queues={"moorage.dead": 1}) == {"a queue is not empty"}
