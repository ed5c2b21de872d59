"""The vocabulary: what requests accept, what they refuse, and how refusals read."""

import json
import re

import pytest
from pydantic import ValidationError

from schemas.errors import Code, ErrorBody, ServiceError
from schemas.fields import PATTERNS_IN_WORDS
from schemas.history import HistoryPage
from schemas.network import NetworkCreate, NetworkView
from schemas.node import NodeReport, desired_digest
from schemas.owners import matches, specificity
from schemas.pool import AddressRange, PoolCreate
from schemas.requests import MAY_SEND, REQUESTS, sender
from schemas.validation import explain


def network(**fields: object) -> dict[str, object]:
    return {"request_id": "r1", "network": "prod", "subnets": [{"cidr": "10.1.0.0/24"}], **fields}


def refusal(model: type, body: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body, extra="forbid")
    return explain(caught.value)


def test_a_driver_may_be_named_by_its_type_alone():
    assert NetworkCreate.model_validate(network(driver="bridge")).driver.type == "bridge"


@pytest.mark.parametrize(
    ("subnets", "says"),
    [
        ([{"cidr": "10.1.0.5/24"}], "subnets.0.cidr: '10.1.0.5/24' has host bits set: write 10.1.0.0/24"),
        ([{"cidr": "10.1.0.0/33"}], "is not a network"),
        ([{"cidr": "prod"}], "must be a network such as"),
        ([{"cidr": 16}], "must be a network such as"),
        ([{"cidr": "10.1.0.0/31"}], "no room for pods"),
        ([{"cidr": "224.0.0.0/24"}], "cannot be given to pods"),
        ([{"cidr": "127.0.0.0/24"}], "cannot be given to pods"),
        ([{"cidr": "::ffff:10.0.0.0/120"}], "IPv6-mapped"),
        ([{"cidr": "10.1.0.0/24", "gateway": "10.2.0.1"}], "outside 10.1.0.0/24"),
        ([{"cidr": "10.1.0.0/24", "gateway": "10.1.0.255"}], "broadcast"),
        ([{"cidr": "10.1.0.0/24"}, {"cidr": "10.1.0.128/25"}], "overlap"),
        ([], "at least 1 item"),
    ],
)
def test_a_subnet_that_cannot_be_is_refused_in_words(subnets: list[dict[str, object]], says: str):
    assert says in refusal(NetworkCreate, network(subnets=subnets))


def test_an_unknown_field_is_refused_at_any_depth():
    assert "owner: unknown field" in refusal(NetworkCreate, network(owner=["shop/*"]))
    body = network(driver={"type": "bridge", "uplnk": "eth1"})
    assert "driver.bridge.uplnk: unknown field" in refusal(NetworkCreate, body)


def test_an_answer_from_a_newer_sender_is_understood():
    view = {
        "network": "prod",
        "definition": {"subnets": [{"cidr": "10.1.0.0/24"}], "colour": "red"},
        "state": "active",
        "version": 1,
        "mood": "good",
    }
    assert NetworkView.model_validate(view).state == "active"


def test_an_event_that_a_newer_allocator_tells_of_is_shown():
    row = {"network": "prod", "seq": 1, "at": "2026-03-01T14:05:00Z", "event": "network.painted"}
    assert HistoryPage.model_validate({"rows": [row]}).rows[0].event == "network.painted"
    with pytest.raises(ValidationError):
        HistoryPage.model_validate({"rows": [row | {"event": "\x1b[2J"}]})


@pytest.mark.parametrize("name", ["_system", "Prod", "prod_1", "-prod", "prod-", "a" * 64, ""])
def test_a_network_name_is_a_dns_label(name: str):
    assert "network" in refusal(NetworkCreate, network(network=name))


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("10.0.0.10-10.0.0.20", "10.0.0.10", "10.0.0.20"),
        ("10.0.0.7", "10.0.0.7", "10.0.0.7"),
        ("10.0.0.16/28", "10.0.0.16", "10.0.0.31"),
        ("fd00::1-fd00::ff", "fd00::1", "fd00::ff"),
    ],
)
def test_a_range_reads_in_three_forms(text: str, first: str, last: str):
    read = AddressRange.model_validate(text)
    assert (str(read.first), str(read.last)) == (first, last)


@pytest.mark.parametrize(
    "text", ["10.0.0.20-10.0.0.10", "10.0.0.1-fd00::1", "10.0.0.1-", "10.0.0.5/28", "x", ""]
)
def test_a_range_that_is_none_is_refused(text: str):
    with pytest.raises(ValidationError):
        AddressRange.model_validate(text)


def test_a_pool_that_keeps_addresses_for_no_time_at_all_is_no_pinned_pool():
    body = {"request_id": "r", "network": "prod", "pool": "web", "policy": "pinned", "size": 5}
    assert "greater than or equal to 1" in refusal(PoolCreate, body | {"retain_s": 0})
    assert PoolCreate.model_validate(body | {"retain_s": 1}).retain_s == 1


def test_ranges_of_a_pool_may_not_overlap():
    body = {"request_id": "r", "network": "prod", "pool": "web", "policy": "pinned"}
    says = refusal(PoolCreate, body | {"ranges": ["10.0.0.0-10.0.0.9", "10.0.0.5-10.0.0.20"]})
    assert "overlap" in says


def test_an_error_report_needs_its_error():
    body = {"node": "n1", "session": "6f1e9b62-5ad1-4a22-9a39-1a5a3a1d8a11", "network": "prod", "version": 1}
    assert "an error is named exactly when" in refusal(NodeReport, body | {"result": "error"})


@pytest.mark.parametrize(
    ("pattern", "owner", "expected"),
    [
        ("shop/web-*", "shop/web-0", True),
        ("shop/web-*", "shop/web", False),
        ("shop/*", "shop/anything.else", True),
        ("shop/*", "shopping/web-0", False),
        ("*/web-0", "shop/web-0", True),
        ("shop*", "shop/web-0", False),
        ("shop/web.0", "shop/webx0", False),
        ("container:*", "container:db", True),
    ],
)
def test_a_pattern_covers_what_it_says_and_no_slash(pattern: str, owner: str, expected: bool):
    assert matches(pattern, owner) is expected


def test_the_closer_description_counts_more():
    assert specificity(("shop/*", "shop/web-*"), "shop/web-0") == len("shop/web-")
    assert specificity(("bank/*",), "shop/web-0") is None


def test_an_error_survives_the_wire():
    error = ServiceError(Code.EXHAUSTED, "pool web is full", retryable=True, used=3)
    read = ServiceError.from_body(ErrorBody.model_validate_json(error.body().model_dump_json()))
    assert (read.code, read.message, read.retryable, read.fields) == (
        "exhausted",
        "pool web is full",
        True,
        {"used": 3},
    )


def test_every_request_may_be_sent_by_somebody():
    assert set(REQUESTS) == set().union(*MAY_SEND.values())


def test_operators_never_pose_as_a_living_node():
    assert not {"node.sync", "node.heartbeat"} & (
        MAY_SEND["operator"] | MAY_SEND["console"] | MAY_SEND["producer"]
    )


def test_a_user_has_a_role_and_a_name():
    assert sender("node.worker-1.example") == ("node", "worker-1.example")
    assert sender("guest") is None


def test_the_digest_depends_on_the_set_and_not_on_its_order():
    assert desired_digest([("a", 1), ("b", 2)]) == desired_digest([("b", 2), ("a", 1)])
    assert desired_digest([("a", 1)]) != desired_digest([("a", 2)])


@pytest.mark.parametrize("model", REQUESTS.values())
def test_every_pattern_is_explained_in_words(model: type):
    patterns = set(re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(model.model_json_schema())))
    assert {json.loads(f'"{pattern}"') for pattern in patterns} <= set(PATTERNS_IN_WORDS)


def test_a_name_that_is_none_is_refused_in_words():
    assert refusal(NetworkCreate, network(network="Prod_1")) == (
        "network: must be 1 to 63 lower-case letters, digits and '-', as in a DNS label"
    )
