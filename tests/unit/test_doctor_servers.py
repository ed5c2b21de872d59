"""What the doctor makes of several servers, and of how they are reached."""

from pathlib import Path
from typing import Any

import pytest

from allocator import servers
from broker import audit, inspection
from broker.login import Login
from cni.places import Places
from compose.doctor import server_checks
from compose.doctor.site import Site
from compose.doctor.verdict import Skipped
from compose.settings import Settings
from schemas.errors import Code, ServiceError

TWO = "amqp://operator.a:x@one:5672,two:5672/%2F"
DATABASES = "mysql+pymysql://moorage:x@one:3306,two:3306/moorage"


def site(**settings: Any) -> Site:
    return Site(Settings.model_validate(settings), Places(Path("/b"), Path("/c"), Path("/s")))


def found(verdicts: list[Any]) -> list[tuple[str, str, str]]:
    return [(verdict.part, verdict.state, verdict.found) for verdict in verdicts]


@pytest.fixture
def let_in(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The hosts that let the user in; the others are away."""
    hosts: set[str] = set()

    async def log_in(login: Login) -> str:
        if any(f"@{host}:" in login.url() for host in hosts):
            return "shown"
        raise ServiceError(Code.UNAVAILABLE, "cannot reach it")

    monkeypatch.setattr(inspection, "log_in", log_in)
    return hosts


def test_a_broker_that_is_away_is_a_warning_while_another_is_there(let_in: set[str]):
    let_in.add("two")
    assert found(server_checks.broker_servers(site(amqp_url=TWO))) == [
        ("one:5672", "warn", "cannot reach it"),
        ("two:5672", "ok", "lets this user in"),
    ]


def test_brokers_that_are_all_away_are_a_failure(let_in: set[str]):
    told = server_checks.broker_servers(site(amqp_url=TWO))
    assert [verdict.state for verdict in told] == ["fail", "fail"]


def test_one_server_is_looked_at_by_other_checks():
    brokers = server_checks.broker_servers(site(amqp_url="amqp://operator.a:x@one/%2F"))
    assert found(brokers) == [("", "ok", "MOORAGE_AMQP_URL names one server")]
    databases = server_checks.database_servers(site(database_url="mysql+pymysql://moorage:x@one/moorage"))
    assert found(databases) == [("", "ok", "MOORAGE_DATABASE_URL names one server")]
    with pytest.raises(Skipped, match="MOORAGE_DATABASE_URL"):
        server_checks.database_servers(site())


def test_each_database_server_tells_how_it_stands(monkeypatch: pytest.MonkeyPatch):
    def state_of(login: Login, *, timeout_s: int) -> tuple[str, bool]:
        return ("takes writes", True) if "@one:" in login.url() else ("away", False)

    monkeypatch.setattr(servers, "state_of", state_of)
    assert found(server_checks.database_servers(site(database_url=DATABASES))) == [
        ("one:3306", "ok", "takes writes"),
        ("two:3306", "warn", "away"),
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"amqp_url": TWO}, ("broker", "warn", "the password goes to one; two unencrypted")),
        ({"amqp_url": TWO.replace("amqp:", "amqps:")}, ("broker", "ok", "encrypted")),
        ({"amqp_url": "amqp://a:x@127.0.0.1/%2F"}, ("broker", "ok", "within this machine")),
        ({"amqp_url": "amqp://a:x@[::1]:5672/%2F"}, ("broker", "ok", "within this machine")),
        ({"amqp_url": "amqp://a:x@localhost/%2F"}, ("broker", "ok", "within this machine")),
        (
            {"management_url": "http://a:x@far"},
            ("management", "warn", "the password goes to far unencrypted"),
        ),
        ({"database_url": DATABASES}, ("database", "warn", "the password goes to one; two unencrypted")),
        ({"database_url": DATABASES, "database_ca": "system"}, ("database", "ok", "encrypted")),
    ],
)
def test_a_password_that_leaves_the_machine_unencrypted_is_told(
    settings: dict[str, str], says: tuple[str, ...]
):
    assert found(server_checks.tls(site(**settings))) == [says]


def test_queues_that_lack_members_are_told(monkeypatch: pytest.MonkeyPatch):
    api = {"management_url": "http://admin:x@broker:15672"}
    monkeypatch.setattr(audit, "lacking_members", lambda *_: [])
    assert server_checks.members(site(**api)).state == "ok"
    monkeypatch.setattr(audit, "lacking_members", lambda *_: ["moorage.dead has 1 of 3 members"])
    said = server_checks.members(site(**api))
    assert (said.state, said.found) == ("warn", "moorage.dead has 1 of 3 members")
    assert "grow" in (said.advice or "")


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        ({"members": ["a", "b", "c"], "online": ["c", "a", "b"]}, []),
        ({"members": ["a", "b", "c"], "online": ["a", "c"]}, ["q has 2 of 3 members: b away"]),
        ({"members": ["a"], "online": ["a"]}, ["q has 1 where there are nodes for 3"]),
    ],
)
def test_a_member_that_is_away_is_named(queue: dict[str, list[str]], says: list[str]):
    assert list(audit._member_faults({"name": "q", **queue}, 3)) == says
