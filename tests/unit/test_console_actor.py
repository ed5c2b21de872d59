"""Whom a change is made for: the local user, unless something else is said."""

import os

import pytest
from typer.testing import CliRunner

from schemas.errors import Code, ServiceError
from schemas.pool import PoolCreate
from tests.console_fakes import FakeAllocator, moorage

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
CREATE = ("pool", "create", "prod", "web", "--policy", "shared", "--range", "10.20.0.10")


def actor_of(*options: str, **variables: str | None) -> str | None:
    allocator = FakeAllocator({PoolCreate: lambda _: ServiceError(Code.POOL_EXISTS, "")})
    CliRunner(env={"MOORAGE_ACTOR": None, **variables}).invoke(moorage(), [*CREATE, *options], obj=allocator)
    (request,) = allocator.asked
    return request.actor


def test_a_change_is_made_for_the_local_user():
    assert actor_of(LOGNAME="bob") == "bob"


def test_a_variable_names_somebody_else():
    assert actor_of(LOGNAME="bob", MOORAGE_ACTOR="ann") == "ann"


def test_the_option_wins_over_the_variable():
    assert actor_of("--actor", "eve", LOGNAME="bob", MOORAGE_ACTOR="ann") == "eve"


@pytest.mark.parametrize("empty", ["MOORAGE_ACTOR", "option"])
def test_an_empty_name_is_none(empty):
    options = ("--actor", "") if empty == "option" else ()
    assert actor_of(*options, LOGNAME="bob", MOORAGE_ACTOR="") == "bob"


def test_a_user_without_a_name_asks_for_nobody(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert actor_of(**dict.fromkeys(NAMES)) is None


def test_a_name_that_is_too_long_is_refused_before_anything_is_asked():
    allocator = FakeAllocator({})
    result = CliRunner().invoke(moorage(), [*CREATE, "--actor", "x" * 256], obj=allocator)
    assert result.exit_code == 2
    assert "actor: String should have at most 255 characters" in result.stderr
    assert allocator.asked == []
