"""What the documents must not forget: every request and every error that somebody may meet."""

import re
from pathlib import Path

import pytest

from schemas.errors import Code
from schemas.requests import REQUESTS

DOCS = Path(__file__).parent.parent.parent / "docs"
MESSAGES = (DOCS / "messages.md").read_text()


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_every_request_is_described(name: str):
    assert f"`{name}`" in MESSAGES


@pytest.mark.parametrize("code", sorted(Code))
def test_every_error_code_is_explained(code: str):
    assert f"`{code}`" in MESSAGES


def test_the_requests_with_a_second_version_are_those_that_are_named():
    (told,) = re.findall(r"(.*) have `schema_version` 2, all others 1", MESSAGES)
    named = set(re.findall(r"`([a-z._]+)`", told))
    assert named == {name for name, request in REQUESTS.items() if request.VERSION == 2}
    assert {request.VERSION for request in REQUESTS.values()} == {1, 2}
