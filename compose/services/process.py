"""One child process: started, waited for, watched and stopped, and never left behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from compose.services.errors import NotStarted

Probe = Callable[[], str | None]
"""Says why a server is not ready yet; None when it is."""

_BUSY = "See whether the machine has memory, disk and time for it"
_TAIL_LINES = 15
_TAIL_BYTES = 16384
_KILLED_S = 10

# The kernel sends the signal when the parent ends. Had the parent ended before that was arranged, the child
# would live on for ever: so it looks once more whose child it is before it becomes the server.
_DIE_WITH_PARENT = ("--pdeathsig", "TERM", "--", "/bin/sh", "-c", '[ "$PPID" = "$0" ] || exit 1; exec "$@"')


class Child:
    """A server process of ours.

    It gets a session of its own, so that a Ctrl-C in the terminal reaches us alone and we stop it in order.
    Where setpriv exists (util-linux) it gets SIGTERM when this process ends, in whatever way.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path,
        keep: Sequence[int] = (),
    ) -> None:
        """`log` takes the child's output, appended; `keep` are descriptors that it inherits."""
        self.name = name
        self.log = log
        self._argv = [str(part) for part in argv]
        self._env = dict(env)
        self._keep = tuple(keep)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._asked = False
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and not self._ended.is_set() else None

    def start(self) -> None:
        """Start the process. Returns at once; raises `OSError` if there is no such program."""
        if self.pid is not None:
            raise RuntimeError(f"{self.name} runs already")
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._ended, self._asked = threading.Event(), False
        started: Future[subprocess.Popen[bytes]] = Future()
        # A parent-death signal is bound to the thread that made the child (prctl(2)): a caller's pool thread
        # may end long before the child should. This thread lives exactly as long as the child.
        threading.Thread(
            target=self._run, args=(started, self._ended), name=f"keeper of {self.name}", daemon=True
        ).start()
        self._process = started.result()

    def _run(self, started: "Future[subprocess.Popen[bytes]]", ended: threading.Event) -> None:
        try:
            process = self._open()
        except BaseException as error:
            ended.set()
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()
        ended.set()

    def _open(self) -> subprocess.Popen[bytes]:
        setpriv = shutil.which("setpriv")
        bound = [setpriv, *_DIE_WITH_PARENT, str(os.getpid())] if setpriv else []
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return subprocess.Popen(
                [*bound, *self._argv],
                env=self._env,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._keep,
            )
        finally:
            os.close(descriptor)

    def wait_until_ready(self, probe: Probe, *, limit_s: float, poll_s: float = 0.05) -> None:
        """Return when `probe` gives None. Raises `NotStarted` if the child ends first, or after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while (reason := probe()) is not None:
            if self._ended.wait(poll_s):
                raise self._ended_early()
            if time.monotonic() > deadline:
                raise self._not_started(f"was not ready within {limit_s:.0f} s ({reason})", _BUSY)

    def wait_until_done(self, limit_s: float) -> None:
        """Wait for a child that ends by itself. Raises `NotStarted` if it fails, or lasts over `limit_s`."""
        if not self._ended.wait(limit_s):
            raise self._not_started(f"was not done within {limit_s:.0f} s", _BUSY)
        if self._process is None or self._process.returncode != 0:
            raise self._ended_early()

    def terminate(self) -> None:
        """Ask it to stop, once; returns at once. Does nothing if it does not run."""
        if self.pid is not None and self._process and not self._asked:
            self._asked = True
            self._process.terminate()

    def stop(self, grace_s: float) -> None:
        """Stop it: SIGTERM, and SIGKILL after `grace_s`, or at once if the waiting is interrupted."""
        try:
            self.terminate()
            self._ended.wait(grace_s if self._process else 0)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL it and what it started. Does nothing if it does not run."""
        if self._process is None or self._ended.is_set():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if not self._ended.wait(_KILLED_S):
            raise TimeoutError(f"{self.name} (pid {self._process.pid}) survived SIGKILL: its disk may hang")

    def tail(self) -> list[str]:
        """The last lines that it logged since it was started last."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return []

    def _ended_early(self) -> NotStarted:
        status = self._process.returncode if self._process else None
        signalled = status is not None and status < 0
        how = f"signal {signal.Signals(-status).name}" if signalled and status else f"exit status {status}"
        return self._not_started(
            f"ended early with {how}", "Remove the cause that its log names, then start again"
        )

    def _not_started(self, what: str, advice: str) -> NotStarted:
        return NotStarted(self.name, what, advice, self.log, self.tail())
