"""docs/asyncapi.yaml: current, valid AsyncAPI 3.0, and true of every message that was ever recorded."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from broker import topology
from docs.making import asyncapi, models
from docs.making.write import DOCS, WRITTEN
from schemas.history import Events
from schemas.message import Answer
from schemas.node import Nudge
from schemas.requests import MAY_SEND, QUERIES, REQUESTS
from tests import recorded

SPECIFICATION = Path(__file__).parent.parent / "asyncapi_schema" / "3.0.0.json"
VERSIONS = [(name, v) for name, model in REQUESTS.items() for v in range(1, model.VERSION + 1)]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_committed_is_current(name: str):
    same = (DOCS / name).read_text(encoding="utf-8") == WRITTEN[name]()
    assert same, f"docs/{name} is not what the models say: run `make asyncapi` and commit it"


def test_it_is_valid_asyncapi(document: dict[str, Any]):
    specification = jsonschema_rs.Draft7Validator(json.loads(SPECIFICATION.read_text()))
    assert [f"{error.instance_path}: {error.message}" for error in specification.iter_errors(document)] == []


def test_what_is_not_valid_is_found(document: dict[str, Any]):
    specification = jsonschema_rs.Draft7Validator(json.loads(SPECIFICATION.read_text()))
    assert not specification.is_valid(document | {"channels": {"a": {"address": 5}}})
    assert not specification.is_valid({key: value for key, value in document.items() if key != "info"})


def resolved(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [each for value in part.values() for each in references(value)]
    return [each for value in part for each in references(value)] if isinstance(part, list) else []


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    found = references(document)
    assert len(found) > 200
    for reference in found:
        resolved(document, reference)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    whole = {"components": document["components"], **schema}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_what_each_version_of_a_request_writes_is_what_is_described(
    name: str, version: int, document: dict[str, Any]
):
    message = document["components"]["messages"][name]
    check = validator(document, message["payload"])
    for body in recorded.read(recorded.request_path(name, version)).bodies:
        assert [error.message for error in check.iter_errors(body)] == []
        assert not check.is_valid({**body, "nobody_knows_it": 1})
    assert version in message["headers"]["properties"]["schema_version"]["enum"]


@pytest.mark.parametrize("model", recorded.answers(), ids=lambda model: model.__name__)
def test_what_is_told_is_what_is_described(model: Any, document: dict[str, Any]):
    check = validator(document, models.ref(models.told(model)))
    bodies = recorded.read(recorded.answer_path(model)).bodies
    assert bodies
    for body in bodies:
        assert [error.message for error in check.iter_errors(body)] == []


@pytest.mark.parametrize("name", REQUESTS)
def test_a_reply_is_a_result_or_an_error(name: str, document: dict[str, Any]):
    check = validator(document, document["components"]["messages"][f"{name}.reply"]["payload"])
    error = {"code": "exhausted", "message": "no", "retryable": False, "fields": {}}
    assert check.is_valid({"result": None, "error": error})
    assert not check.is_valid({"result": 5})
    for body in recorded.read(recorded.answer_path(REQUESTS[name].ANSWER)).bodies:
        assert check.is_valid({"result": body, "error": None})


@pytest.mark.parametrize("name", REQUESTS)
def test_who_may_send_a_request_is_who_the_allocator_lets(name: str, document: dict[str, Any]):
    operation = document["operations"][name]
    assert operation["action"] == "receive"
    assert operation["x-moorage-senders"] == [role for role, names in MAY_SEND.items() if name in names]


def test_a_request_is_published_where_the_product_publishes_it(document: dict[str, Any]):
    for name in REQUESTS:
        key = document["channels"][name]["address"].format(partition=3)
        assert topology.request_name(key) == name
        exchange = document["channels"][name]["bindings"]["amqp"]["exchange"]
        assert (exchange["name"], exchange["type"]) == ("moorage.requests", "topic")


def test_every_exchange_and_queue_is_a_channel(document: dict[str, Any]):
    bindings = [channel.get("bindings", {}).get("amqp", {}) for channel in document["channels"].values()]
    queues = {each["queue"]["name"] for each in bindings if each.get("is") == "queue"}
    of_all = {topology.node_queue("{node}"), topology.events_queue("{user}")}
    assert queues == {queue.name for queue in topology.shared_queues()} | of_all
    assert {each["exchange"]["name"] for each in bindings if "exchange" in each} == {
        topology.REQUESTS_EXCHANGE,
        topology.EVENTS_EXCHANGE,
    }


def test_each_queue_has_the_requests_that_are_bound_to_it(document: dict[str, Any]):
    assert set(document["channels"]["moorage.queries"]["messages"]) == QUERIES
    assert set(document["channels"]["moorage.heartbeats"]["messages"]) == {"node.heartbeat"}
    changes = set(REQUESTS) - QUERIES - {"node.heartbeat"}
    for number in range(topology.PARTITIONS):
        assert set(document["channels"][f"moorage.allocator.{number}"]["messages"]) == changes


def test_a_field_that_a_version_brought_is_named_as_such():
    assert asyncapi.new_fields("pool.list", 1) == {}
    assert all(asyncapi.new_fields("node.sync", REQUESTS["node.sync"].VERSION).values())


def test_events_and_nudges_are_sent(document: dict[str, Any]):
    sent = {name for name, each in document["operations"].items() if each["action"] == "send"}
    assert sent == {"events", "nudge"}
    assert {models.told(each) for each in (Events, Nudge, Answer)} <= set(document["components"]["schemas"])
