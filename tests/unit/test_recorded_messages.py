"""Messages only ever gain: what an older version writes is read, and nothing it relies on goes away."""

import json
from collections.abc import Iterator
from typing import ClassVar

import pytest
from pydantic import Field, create_model

from schemas.message import Message, Request
from schemas.node import NodeHeartbeat, NodePage
from schemas.requests import REQUESTS
from tests import recorded
from tests.recorded import Fields, Recorded

VERSIONS = [(name, v) for name, model in REQUESTS.items() for v in range(1, model.VERSION + 1)]


def lost(before: Fields, now: Fields) -> Iterator[str]:
    """What a writer of `before` relies on and a reader of `now` does not grant."""
    for path, said in before.items():
        needed, _, values = said.partition(": ")
        needed_now, _, values_now = now.get(path, "").partition(": ")
        if path not in now:
            yield f"{path} is gone"
        elif needed_now == "required" and needed != "required":
            yield f"{path} must be there now"
        elif values and not set(values.split(", ")) <= set(values_now.split(", ")):
            yield f"{path} has lost values"
    for path, said in now.items():
        if path not in before and said.startswith("required") and _is_known(path.rpartition(".")[0], before):
            yield f"{path} is new and must be there"


def _is_known(holder: str, fields: Fields) -> bool:
    """Whether somebody may write this object without having heard of a field of it."""
    return not holder or any(path.startswith(f"{holder}.") for path in fields)


def withheld(before: Fields, now: Fields) -> Iterator[str]:
    """What a reader of `before` must find and a writer of `now` may leave out."""
    for path, said in before.items():
        if said.startswith("required") and not now.get(path, "").startswith("required"):
            yield f"{path} may be left out now"


def to_record(path: object, fields: Fields) -> str:
    told = json.dumps({"fields": fields}, indent=1)
    return f"write {path} with bodies of this version and these fields:\n{told}"


def known(path, fields: Fields) -> Recorded:
    assert path.exists(), to_record(path, fields)
    return recorded.read(path)


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_what_each_version_of_a_request_writes_is_read(name: str, version: int):
    model = REQUESTS[name]
    record = known(recorded.request_path(name, version), recorded.fields_of(model))
    assert record.bodies
    for body in record.bodies:
        model.read(json.dumps(body).encode())


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_a_request_keeps_what_each_version_may_say(name: str, version: int):
    record = recorded.read(recorded.request_path(name, version))
    assert list(lost(record.fields, recorded.fields_of(REQUESTS[name]))) == []


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_says_nothing_new_without_a_new_version(name: str):
    model = REQUESTS[name]
    path, fields = recorded.request_path(name, model.VERSION), recorded.fields_of(model)
    following = recorded.request_path(name, model.VERSION + 1)
    assert dict(known(path, fields).fields) == fields, (
        f"{name} has changed: raise its VERSION, then {to_record(following, fields)}"
    )
    assert not following.exists()


@pytest.mark.parametrize("model", recorded.answers(), ids=lambda model: model.__name__)
def test_answers_and_events_of_older_versions_are_read(model: type[Message]):
    record = known(recorded.answer_path(model), recorded.fields_of(model))
    assert record.bodies
    for body in record.bodies:
        model.model_validate_json(json.dumps(body))


@pytest.mark.parametrize("model", recorded.answers(), ids=lambda model: model.__name__)
def test_answers_and_events_keep_what_their_readers_need(model: type[Message]):
    record, fields = recorded.read(recorded.answer_path(model)), recorded.fields_of(model)
    assert [*lost(record.fields, fields), *withheld(record.fields, fields)] == []
    assert dict(record.fields) == fields, to_record(record.path, fields)


def test_every_recorded_file_is_of_a_message_that_there_is():
    requests = {recorded.request_path(name, version) for name, version in VERSIONS}
    answers = {recorded.answer_path(model) for model in recorded.answers()}
    assert set(recorded.FOLDER.rglob("*.json")) == requests | answers


class Older(Request):
    NAME: ClassVar[str] = "x"

    node: str
    mood: str | None = None


def changed(**fields: object) -> list[str]:
    model = create_model("Newer", __base__=Message, **fields)  # type: ignore[call-overload]
    return list(lost(recorded.fields_of(Older), recorded.fields_of(model)))


def test_a_field_that_is_removed_renamed_or_made_required_is_found():
    assert changed(node=(str, ...), mood=(str | None, None)) == []
    assert changed(node=(str, ...)) == ["mood is gone"]
    assert changed(node=(str, ...), temper=(str | None, None)) == ["mood is gone"]
    assert changed(node=(str, ...), mood=(str, ...)) == ["mood must be there now"]
    new = changed(node=(str, ...), mood=(str | None, None), colour=(str, Field()))
    assert new == ["colour is new and must be there"]


def test_a_field_is_known_at_any_depth():
    assert "nodes.session" in recorded.fields_of(NodePage)
    assert recorded.fields_of(NodeHeartbeat)["node"] == "required"
