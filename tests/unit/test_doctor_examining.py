"""`moorage doctor` as a whole: checks side by side, each on its own, and how it ends."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Event

import pytest
import typer
from typer.testing import CliRunner, Result

from cni.places import Places
from compose.doctor import commands, examining
from compose.doctor.examining import CHECKS, chosen, examine
from compose.doctor.site import Site
from compose.doctor.verdict import Skipped, Verdict, fail, ok, warn
from compose.settings import Settings
from schemas.errors import Code, ServiceError

PLACES = Places(Path("/nowhere/bin"), Path("/nowhere/net.d"), Path("/nowhere/cni.sock"))
SECRETS = {
    "amqp_url": "amqp://operator.a:hu%2Fsh@127.0.0.1:1/%2F",
    "management_url": "http://admin:mum@127.0.0.1:1",
    "database_url": "mysql+pymysql://moorage:quiet@127.0.0.1:1/moorage",
}


def site(**settings: object) -> Site:
    return Site(Settings.model_validate(settings), PLACES)


def raising(error: Exception):
    def check(_: Site) -> Verdict:
        raise error

    return check


def states(report) -> dict[str, str]:
    return {item.check: item.state for item in report.findings}


def test_each_check_is_judged_by_itself_and_told_in_its_order():
    report = examine(
        site(),
        {
            "one": lambda _: ok("fine"),
            "two": raising(ServiceError(Code.UNAVAILABLE, "the database is away: start it")),
            "three": raising(Skipped("needs MOORAGE_X")),
            "four": raising(KeyError("x")),
            "five": lambda _: [Verdict("ok", "a", part="a"), Verdict("warn", "b", "mend b", "b")],
        },
    )
    assert list(states(report).items()) == [
        ("one", "ok"),
        ("two", "fail"),
        ("three", "skip"),
        ("four", "fail"),
        ("five a", "ok"),
        ("five b", "warn"),
    ]
    assert not report.ok
    assert report.findings[1].found == "the database is away: start it"
    assert "KeyError" in report.findings[3].found


def test_checks_run_side_by_side():
    together = Barrier(3, timeout=10)

    def check(_: Site) -> Verdict:
        together.wait()
        return ok("met the others")

    assert examine(site(), {"a": check, "b": check, "c": check}, limit_s=10).ok


@pytest.fixture
def hanging() -> Iterator[Event]:
    """Ends what waits for it when the test is over."""
    over = Event()
    yield over
    over.set()


def test_one_that_hangs_is_given_up_and_harms_no_other(hanging: Event):
    def hang(_: Site) -> Verdict:
        hanging.wait(60)
        return ok("too late")

    report = examine(site(), {"slow": hang, "quick": lambda _: ok("fine")}, limit_s=0.2)
    assert states(report) == {"slow": "fail", "quick": "ok"}
    assert "no answer within 0.2 s" in report.findings[0].found


def test_no_password_of_the_settings_is_told():
    told = "connect to amqp://x:hu%2Fsh@h failed; mum, quiet and hu/sh"
    report = examine(site(**SECRETS), {"a": lambda _: fail(told, told), "b": raising(ValueError(told))})
    text = report.model_dump_json()
    assert not any(secret in text for secret in ("hu%2Fsh", "hu/sh", "mum", "quiet"))
    assert "***" in text


def test_without_any_settings_everything_is_skipped_with_what_it_needs():
    report = examine(site(), CHECKS)
    assert set(states(report).values()) == {"skip"}
    assert all("needs MOORAGE_" in item.found for item in report.findings)


def test_servers_that_are_away_fail_their_own_checks_alone():
    report = examine(site(**SECRETS), CHECKS)
    found = states(report)
    assert {found[name] for name in ("login", "topology", "alarms", "database", "pause")} == {"fail"}
    assert {found[name] for name in ("cni", "socket", "journal", "links")} == {"skip"}
    assert "is it running" in next(item.found for item in report.findings if item.check == "login")


def test_checks_are_chosen_by_name():
    assert list(chosen(["clock", "login"])) == ["login", "clock"]
    assert chosen([""]) == dict(CHECKS)
    with pytest.raises(ServiceError, match="no check tea; there are login"):
        chosen(["tea", "login"])


def doctor(monkeypatch: pytest.MonkeyPatch, *words: str, **checks: Verdict) -> Result:
    made = {name: (lambda _, said=said: said) for name, said in checks.items()}
    monkeypatch.setattr(examining, "CHECKS", made)
    app = typer.Typer()
    commands.register(app)
    return CliRunner().invoke(app, list(words), obj=Settings())


@pytest.mark.parametrize(
    ("words", "verdict", "status"),
    [
        ([], ok("fine"), 0),
        (["--strict"], ok("fine"), 0),
        ([], Verdict("skip", "needs more"), 0),
        (["--strict"], Verdict("skip", "needs more"), 0),
        ([], warn("hm", "look"), 0),
        (["--strict"], warn("hm", "look"), 1),
        ([], fail("no", "mend it"), 1),
    ],
)
def test_the_exit_status_tells_how_it_is(monkeypatch, words: list[str], verdict: Verdict, status: int):
    assert doctor(monkeypatch, *words, login=verdict).exit_code == status


def test_people_get_a_table_and_then_what_to_do(monkeypatch):
    result = doctor(monkeypatch, login=ok("fine"), clock=warn("2.5 s behind", "see to its clock"))
    assert result.stdout.splitlines()[0].split() == ["CHECK", "STATE", "FOUND"]
    assert "clock: see to its clock" in result.stderr


def test_programs_get_json(monkeypatch):
    result = doctor(monkeypatch, "--output", "json", login=fail("no", "mend it"))
    assert json.loads(result.stdout) == {
        "ok": False,
        "findings": [{"check": "login", "state": "fail", "found": "no", "advice": "mend it"}],
    }
    assert result.exit_code == 1


def test_an_unknown_check_is_a_wrong_command_line(monkeypatch):
    result = doctor(monkeypatch, "--only", "tea", login=ok("fine"))
    assert result.exit_code == 2
    assert "there is no check tea; there are login" in result.stderr
