"""Tokens: what is kept of them, what they open, and who signed in with one."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from console.access.identity import Identity
from console.access.sign_in import LASTS_S, ONE_TIME, SignIns
from console.access.tokens import Tokens
from schemas.errors import Code, ServiceError


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "etc" / "tokens.json")


def test_a_token_opens_what_its_role_says_and_its_text_is_not_kept(tokens: Tokens):
    token = tokens.create("shop-team", "tenant", ("shop", "cart"))
    assert tokens.identify(token) == Identity("shop-team", "tenant", frozenset({"shop", "cart"}))
    kept = tokens.path.read_text()
    assert token not in kept
    assert token[-43:] not in kept  # the secret, which may hold a "_" itself
    assert tokens.path.stat().st_mode & 0o777 == 0o600


def test_no_other_text_opens_anything(tokens: Tokens):
    token = tokens.create("ops", "operator")
    tokens.create("view", "viewer")
    wrong = [token[:-1], token + "x", token.replace("ops", "view"), "", "moorage_ops_", "x" * 5000, "ünïcode"]
    assert [tokens.identify(text) for text in wrong] == [None] * len(wrong)


def test_where_there_is_no_file_nobody_is_let_in(tokens: Tokens):
    assert tokens.identify("moorage_ops_" + "a" * 43) is None


def test_another_process_revokes_a_token_at_once(tokens: Tokens):
    token = tokens.create("ops", "operator")
    assert tokens.identify(token) is not None
    Tokens(tokens.path).revoke("ops")
    assert tokens.identify(token) is None


def test_a_token_whose_time_is_over_opens_nothing(tokens: Tokens):
    token = tokens.create("ops", "operator", valid_for=timedelta(seconds=-1))
    assert tokens.identify(token) is None
    assert tokens.current("ops") is None


@pytest.mark.parametrize(
    ("name", "role", "namespaces"),
    [("Ops", "operator", ()), ("a_b", "viewer", ()), ("t", "tenant", ()), ("o", "operator", ("shop",))],
)
def test_what_makes_no_sense_is_refused(tokens: Tokens, name: str, role: str, namespaces: tuple[str, ...]):
    with pytest.raises(ServiceError) as refused:
        tokens.create(name, role, namespaces)  # type: ignore[arg-type]
    assert refused.value.code == Code.INVALID_REQUEST


def test_a_name_is_given_once(tokens: Tokens):
    tokens.create("ops", "operator")
    with pytest.raises(ServiceError, match="moorage token revoke ops"):
        tokens.create("ops", "viewer")


def test_to_revoke_what_is_not_there_is_refused(tokens: Tokens):
    with pytest.raises(ServiceError, match="moorage token list"):
        tokens.revoke("ops")


@pytest.mark.parametrize("content", ["", "{", '{"tokens": [{"name": "ops"}]}', '{"token": []}'])
def test_a_file_that_cannot_be_read_lets_nobody_in(tokens: Tokens, content: str):
    token = tokens.create("ops", "operator")
    tokens.path.write_text(content)
    with pytest.raises(ServiceError, match="MOORAGE_TOKENS_FILE") as refused:
        tokens.identify(token)
    assert refused.value.code == Code.NOT_PROVISIONED


def test_a_file_that_others_can_read_is_not_believed(tokens: Tokens):
    token = tokens.create("ops", "operator")
    tokens.path.chmod(0o640)
    os.utime(tokens.path, ns=(1, 1))
    with pytest.raises(ServiceError, match="chmod 600"):
        tokens.identify(token)


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the file cannot be another's")
@pytest.mark.parametrize(("mode", "believed"), [(0o440, True), (0o460, False), (0o444, False)])
def test_a_file_of_another_is_believed_if_its_group_can_read_it_and_no_more(
    tokens: Tokens, mode: int, believed: bool
):
    """A Secret that Kubernetes mounts for a process that is not root belongs to root and to its group."""
    token = tokens.create("ops", "operator")
    os.chown(tokens.path, 65534, -1)
    tokens.path.chmod(mode)
    os.utime(tokens.path, ns=(1, 1))
    if believed:
        assert tokens.identify(token) == Identity("ops", "operator")
    else:
        with pytest.raises(ServiceError, match="chmod 600"):
            tokens.identify(token)


def test_a_write_that_fails_leaves_the_tokens_as_they_were(tokens: Tokens):
    tokens.create("ops", "operator")
    before = json.loads(tokens.path.read_text())
    with pytest.raises(ServiceError):
        tokens.create("ops", "operator")
    assert json.loads(tokens.path.read_text()) == before
    assert [path.name for path in tokens.path.parent.iterdir() if "lock" not in path.name] == ["tokens.json"]


def test_a_browser_stays_signed_in_until_its_time_is_over(tokens: Tokens):
    now = [0.0]
    sign_ins = SignIns(tokens, now=lambda: now[0])
    cookie = sign_ins.by_token(tokens.create("ops", "operator"))
    assert cookie is not None
    now[0] = LASTS_S - 1
    found = sign_ins.find(cookie)
    assert found is not None
    assert found.identity.name == "ops"
    now[0] = LASTS_S
    assert sign_ins.find(cookie) is None


def test_a_browser_is_signed_out_when_its_token_is_revoked_or_made_anew(tokens: Tokens):
    sign_ins = SignIns(tokens)
    first = sign_ins.by_token(tokens.create("ops", "operator"))
    second = sign_ins.by_token(tokens.create("view", "viewer"))
    assert first is not None
    assert second is not None
    tokens.revoke("ops")
    assert sign_ins.find(first) is None
    tokens.revoke("view")
    tokens.create("view", "operator")
    assert sign_ins.find(second) is None, "another token under its name"


def test_the_one_time_token_opens_once(tokens: Tokens):
    sign_ins = SignIns(tokens, "s" * 43)
    assert sign_ins.by_one_time("x" * 43) is None
    cookie = sign_ins.by_one_time("s" * 43)
    assert cookie is not None
    found = sign_ins.find(cookie)
    assert found is not None
    assert found.identity == ONE_TIME
    assert sign_ins.by_one_time("s" * 43) is None
    sign_ins.end(cookie)
    assert sign_ins.find(cookie) is None


def test_without_a_one_time_token_none_opens(tokens: Tokens):
    assert SignIns(tokens).by_one_time("") is None
