"""One child process: readiness, early ends, stopping, and whom it dies with."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.services.errors import NotStarted
from compose.services.process import Child

ROOT = Path(__file__).parents[2]


def child_of(tmp_path: Path, script: str) -> Child:
    env = {"PATH": os.environ["PATH"]}
    return Child("server", ["sh", "-c", script], env=env, log=tmp_path / "server.log")


def said(child: Child, word: str) -> Callable[[], str | None]:
    return lambda: None if word in child.tail() else f"{word} not said"


def until(condition: Callable[[], bool], what: str, limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.01)


def test_a_child_is_ready_when_its_probe_says_so(tmp_path: Path) -> None:
    child = child_of(tmp_path, "echo up; exec sleep 60")
    child.start()
    child.wait_until_ready(said(child, "up"), limit_s=10)
    process = Path(f"/proc/{child.pid}")
    assert process.exists()
    child.stop(grace_s=10)
    assert child.pid is None
    assert not process.exists()


def test_a_child_that_ends_early_is_reported_with_status_and_last_lines(tmp_path: Path) -> None:
    child = child_of(tmp_path, "seq 100; echo the disk is full >&2; exit 3")
    child.start()
    with pytest.raises(NotStarted, match="server ended early with exit status 3") as caught:
        child.wait_until_ready(lambda: "never", limit_s=10)
    assert caught.value.tail[-1] == "the disk is full"
    assert caught.value.tail[0] == "87"
    assert str(tmp_path / "server.log") in str(caught.value)


def test_a_child_that_a_signal_ended_is_reported_with_its_name(tmp_path: Path) -> None:
    child = child_of(tmp_path, "kill -SEGV $$")
    child.start()
    with pytest.raises(NotStarted, match="ended early with signal SIGSEGV"):
        child.wait_until_ready(lambda: "never", limit_s=10)


def test_a_child_that_is_never_ready_is_reported_with_the_reason(tmp_path: Path) -> None:
    child = child_of(tmp_path, "exec sleep 60")
    child.start()
    with pytest.raises(NotStarted, match=r"not ready within 0 s \(port closed\)"):
        child.wait_until_ready(lambda: "port closed", limit_s=0.1)
    assert child.pid, "stopping it is its owner's choice"
    child.stop(grace_s=10)


def test_only_the_output_of_the_last_start_is_reported(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("of an earlier run\n")
    child = child_of(tmp_path, "echo of this run")
    child.start()
    child.wait_until_done(limit_s=10)
    assert child.tail() == ["of this run"]


def test_a_program_that_is_missing_raises_in_the_caller(tmp_path: Path) -> None:
    child = Child("server", [tmp_path / "nothing"], env={}, log=tmp_path / "server.log")
    child.start()  # what binds it to us is there, and reports that it cannot run it
    with pytest.raises(NotStarted, match="exit status 127"):
        child.wait_until_done(limit_s=10)


def test_a_work_that_fails_or_lasts_too_long_is_reported(tmp_path: Path) -> None:
    failing = child_of(tmp_path, "exit 1")
    failing.start()
    with pytest.raises(NotStarted, match="exit status 1"):
        failing.wait_until_done(limit_s=10)
    slow = child_of(tmp_path, "exec sleep 60")
    slow.start()
    with pytest.raises(NotStarted, match="was not done within"):
        slow.wait_until_done(limit_s=0.1)
    slow.kill()


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = child_of(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    child.start()
    child.wait_until_ready(said(child, "up"), limit_s=10)
    pid = child.pid
    child.stop(grace_s=0.2)
    assert not Path(f"/proc/{pid}").exists()


def test_a_child_is_asked_once_however_often_it_is_stopped(tmp_path: Path) -> None:
    """A server may take a second SIGTERM for impatience."""
    child = child_of(tmp_path, "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done")
    child.start()
    child.wait_until_ready(said(child, "up"), limit_s=10)
    child.terminate()
    child.wait_until_ready(said(child, "asked"), limit_s=10)
    child.stop(grace_s=0.3)
    assert child.tail().count("asked") == 1


def test_what_the_child_started_is_killed_with_it(tmp_path: Path) -> None:
    child = child_of(tmp_path, "sleep 60 & echo $!; wait")
    child.start()
    child.wait_until_ready(lambda: None if child.tail() else "silent", limit_s=10)
    helper = Path("/proc", child.tail()[0], "stat")
    assert helper.exists()
    child.kill()
    until(lambda: not helper.exists() or ") Z " in helper.read_text(), "the helper is dead")


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_child(tmp_path: Path) -> None:
    child = child_of(tmp_path, "echo up; exec sleep 60")
    child.start()
    child.wait_until_ready(said(child, "up"), limit_s=10)
    assert child.pid
    assert os.getpgid(child.pid) != os.getpgid(0)
    assert os.getsid(child.pid) != os.getsid(0)
    child.stop(grace_s=10)


def test_a_child_started_by_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    child = child_of(tmp_path, "echo up; exec sleep 60")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    child.wait_until_ready(said(child, "up"), limit_s=10)
    with pytest.raises(AssertionError):
        until(lambda: child.pid is None, "the child ends", limit_s=0.3)
    child.stop(grace_s=10)


def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from compose.services.process import Child\n"
        "child = Child('server', ['sleep', '60'], env={'PATH': '/usr/bin:/bin'}, log=Path(sys.argv[1]))\n"
        "child.start(); print(child.pid, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout
        status = Path("/proc", parent.stdout.readline().strip(), "stat")
        assert status.exists()
        parent.send_signal(signal.SIGKILL)
        parent.wait(timeout=10)
    until(lambda: not status.exists() or ") Z " in status.read_text(), "the child is dead")
