"""Credentials written into files: what is there afterwards, whatever happens meanwhile."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from broker import commands, handover
from broker.handover import Handover, Output
from broker.provisioning import Enrolled
from schemas.errors import Code, ServiceError

SECRET = "hunter2"
URL = f"amqp://node.n1:{SECRET}@a:5672/%2F"
NEW = Enrolled("node.n1", URL, SECRET)
KEPT = Enrolled("node.n1", URL.replace(SECRET, "***"), None)


def given(enrolled: Enrolled, **files: Path) -> None:
    made = Handover(Output.TABLE, **files)
    made.check()
    made.give(enrolled, {"MOORAGE_NODE_NAME": "n1"})


def test_the_url_lies_alone_in_a_file_that_only_its_owner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "amqp-url"
    target.write_text("old")
    target.chmod(0o644)
    given(NEW, url_file=target)
    assert target.read_text() == f"{URL}\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["amqp-url"]
    told = capsys.readouterr()
    assert str(target) in told.out and SECRET not in told.out + told.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_stays_its_owners(tmp_path: Path):
    target = tmp_path / "amqp-url"
    target.write_text("old")
    os.chown(target, 4321, 1234)
    given(NEW, url_file=target)
    assert (target.stat().st_uid, target.stat().st_gid) == (4321, 1234)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_kill_in_between_leaves_the_old_file_whole(tmp_path: Path):
    """At each moment it is the old one or the new one; what is left over is read by nobody else."""
    target = tmp_path / "amqp-url"
    target.write_text("old")
    child = os.fork()
    if child == 0:
        handover.os.fsync = lambda _: os._exit(7)  # type: ignore[assignment]
        given(NEW, url_file=target)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert target.read_text() == "old"
    left = [file for file in tmp_path.iterdir() if file != target]
    assert [stat.S_IMODE(file.stat().st_mode) for file in left] == [0o600]


def test_a_disk_that_is_full_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """RabbitMQ has the new password already, and nobody knows it."""
    target = tmp_path / "amqp-url"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handover.os, "fsync", full)
    with pytest.raises(ServiceError, match=f"{target}.*No space left.*--rotate") as caught:
        given(NEW, url_file=target)
    assert SECRET not in caught.value.message
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_written_for_a_user_that_keeps_its_password(tmp_path: Path):
    target, other = tmp_path / "amqp-url", tmp_path / "settings"
    target.write_text("old")
    with pytest.raises(ServiceError, match="--rotate gives it a new one") as caught:
        given(KEPT, url_file=target, settings_file=other)
    assert caught.value.code == Code.INVALID_REQUEST
    assert target.read_text() == "old"
    assert not other.exists()


@pytest.mark.parametrize("place", ["", "missing/file"])
def test_a_place_that_takes_no_file_is_refused_before_anything_is_changed(tmp_path: Path, place: str):
    with pytest.raises(ServiceError, match="cannot be written"):
        Handover(Output.TABLE, url_file=tmp_path / place).check()


class Calls:
    """What was asked of RabbitMQ."""

    def __init__(self, enrolled: Enrolled) -> None:
        self.enrolled, self.asked = enrolled, list[str]()

    def enroll(self, *_: Any, **__: Any) -> Enrolled:
        self.asked.append("enroll")
        return self.enrolled

    def disconnect(self, *_: Any) -> None:
        self.asked.append("disconnect")


def run(monkeypatch: pytest.MonkeyPatch, calls: Calls, *words: str) -> Any:
    for name in ("enroll_node", "enroll_client", "enroll_allocator"):
        monkeypatch.setattr(commands, name, calls.enroll)
    monkeypatch.setattr(commands, "disconnect", calls.disconnect)
    app, node_app = typer.Typer(), typer.Typer()

    @app.callback()
    def settings(ctx: typer.Context) -> None:
        ctx.obj = SimpleNamespace(management="http://u:p@a")

    @node_app.callback()
    def nodes() -> None: ...

    commands.register(app, node_app)
    app.add_typer(node_app, name="node")
    return CliRunner().invoke(app, list(words))


def test_old_connections_are_closed_once_the_new_password_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    calls = Calls(NEW)
    target = tmp_path / "amqp-url"
    words = ["node", "enroll", "n1", "--rotate", "--disconnect", "--url-file", str(target)]
    assert run(monkeypatch, calls, *words).exit_code == 0
    assert calls.asked == ["enroll", "disconnect"]
    assert target.exists()


@pytest.mark.parametrize("words", [["node", "enroll", "n1"], ["client", "enroll", "x", "--role", "console"]])
def test_whoever_wants_connections_closed_and_no_new_password_is_told(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
):
    """Who fears a stolen password would think that it is of no use any more."""
    calls = Calls(KEPT)
    result = run(monkeypatch, calls, *words, "--disconnect")
    assert isinstance(result.exception, ServiceError)
    assert "--rotate" in result.exception.message and "--disconnect" in result.exception.message
    assert calls.asked == []


def test_a_file_that_cannot_be_written_disconnects_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    calls = Calls(NEW)
    words = ["node", "enroll", "n1", "--rotate", "--disconnect", "--url-file", str(tmp_path / "no" / "file")]
    assert isinstance(run(monkeypatch, calls, *words).exception, ServiceError)
    assert calls.asked == []
