"""`moorage db`: what each command does to the database, and what it says."""

import socket
from collections.abc import Callable

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from allocator import restoring, schema
from broker.outcome import Unavailable
from compose.database_commands import app as db_app
from compose.settings import Settings
from schemas.errors import Code, ServiceError

URL = "mysql+pymysql://moorage:secret@127.0.0.1:3306/moorage"


class FakeDatabase:
    """Stands for the allocator's functions; remembers which was called on what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.done: list[tuple[str, str]] = []
        for module, name, answer in (
            (schema, "upgrade", "0005"),
            (restoring, "declare_restored", 3),
            (restoring, "resume", None),
        ):
            monkeypatch.setattr(module, name, self._function(name, answer, error))

    def _function(self, name: str, answer: object, error: Exception | None) -> Callable[[Engine], object]:
        def function(engine: Engine) -> object:
            self.done.append((name, str(engine.url.database)))
            if error is not None:
                raise error
            return answer

        return function


def db(command: str, url: str | None = URL) -> Result:
    return CliRunner().invoke(db_app, [command], obj=Settings(database_url=url))


@pytest.mark.parametrize(
    ("command", "function", "says"),
    [
        ("upgrade", "upgrade", ["the database is at revision 0005"]),
        ("restored", "declare_restored", ["epoch 3", "paused", "moorage node list", "moorage db resume"]),
        ("resume", "resume", ["pods get new addresses again"]),
    ],
)
def test_each_command_does_its_one_thing_to_the_database_that_the_settings_name(
    monkeypatch, command, function, says
):
    database = FakeDatabase(monkeypatch)
    result = db(command)
    assert result.exit_code == 0
    assert database.done == [(function, "moorage")]
    for words in says:
        assert words in result.stdout


@pytest.mark.parametrize("command", ["upgrade", "restored", "resume"])
def test_without_a_database_url_it_says_which_setting_to_make(monkeypatch, command):
    database = FakeDatabase(monkeypatch)
    error = db(command, url=None).exception
    assert isinstance(error, ServiceError)
    assert error.code == Code.NOT_PROVISIONED
    assert "MOORAGE_DATABASE_URL is not set" in error.message
    assert database.done == []


@pytest.mark.parametrize("command", ["restored", "resume"])
def test_a_refusal_of_the_database_is_told_as_it_is(monkeypatch, command):
    refusal = ServiceError(Code.NOT_PROVISIONED, "run `moorage db upgrade` first")
    FakeDatabase(monkeypatch, refusal)
    assert db(command).exception is refusal


@pytest.mark.parametrize("command", ["upgrade", "restored", "resume"])
def test_a_database_that_lets_nobody_in_is_an_error_that_says_where_to_look(monkeypatch, command):
    FakeDatabase(monkeypatch, Unavailable("the database lets nobody in"))
    error = db(command).exception
    assert isinstance(error, ServiceError)
    assert error.code == Code.UNAVAILABLE
    assert "lets nobody in. Look at MOORAGE_DATABASE_URL" in error.message


def test_a_database_that_is_away_is_an_error_without_its_password():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        port = closed.getsockname()[1]
        error = db("upgrade", f"mysql+pymysql://moorage:secret@127.0.0.1:{port}/moorage").exception
    assert isinstance(error, ServiceError)
    assert error.code == Code.UNAVAILABLE
    assert "secret" not in error.message


def test_the_help_says_when_to_run_what():
    told = " ".join(CliRunner().invoke(db_app, ["restored", "--help"]).stdout.split())
    assert "BEFORE any allocator is started" in told
    assert "moorage db resume" in told
