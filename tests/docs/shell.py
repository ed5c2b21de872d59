"""A shell that goes on from one block of a page to the next, with its variables and its folder."""

import os
import select
import shlex
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.machines import until

_END = b"\x01"
_STOP_S = 60


@dataclass(frozen=True)
class Printed:
    """What became of a command: its exit status, and both its outputs as they came."""

    status: int
    text: str


class Shell:
    """bash in a folder, without a terminal."""

    def __init__(self, folder: Path, env: Mapping[str, str], undo: ExitStack) -> None:
        self.folder, self._undo = folder, undo
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=env,
        )
        undo.callback(self._close)
        self.run("set -a -o pipefail")

    def _close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def run(self, command: str, limit_s: float = 90) -> Printed:
        """Run a command to its end. Fails after `limit_s`, and the shell with it."""
        assert self._process.stdin is not None
        line = f"eval {shlex.quote(command)} </dev/null; printf '\\001%d\\001' $?\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        return self._read(command, time.monotonic() + limit_s)

    def _read(self, command: str, deadline: float) -> Printed:
        assert self._process.stdout is not None
        descriptor, seen = self._process.stdout.fileno(), b""
        while seen.count(_END) < 2:
            ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
            more = os.read(descriptor, 65536) if ready else b""
            if not more:
                self._process.kill()
                raise AssertionError(f"{command}\ndid not end in time; it printed:\n{seen.decode()}")
            seen += more
        text, status, _ = seen.split(_END)
        return Printed(int(status), text.decode())

    def start(self, command: str) -> "Background":
        """Run a command that does not end by itself, until the end of the page."""
        environment = dict(line.split("=", 1) for line in self.run("env -0").text.split("\0") if "=" in line)
        log = self.folder / f"background-{time.monotonic_ns()}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.run("pwd").text.strip(),
                env=environment,
            )
        self._undo.callback(_end, process)
        return Background(log, process)


@dataclass(frozen=True)
class Background:
    """A command that runs, and what it prints."""

    log: Path
    process: "subprocess.Popen[bytes]"

    def wait_for(self, said: str, limit_s: float = 120) -> str:
        """What it printed, once that includes `said`."""
        until(lambda: said in self.log.read_text() or self.process.poll() is not None, limit_s)
        printed = self.log.read_text()
        assert said in printed, printed
        return printed


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    finally:
        process.kill()
        process.wait()
