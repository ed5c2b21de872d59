"""CNI calls as a runtime makes them, timed as whole processes: from exec to exit."""

import json
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_worker.netlink import simulated
from node_worker.netlink.namespace import Netns


@dataclass(frozen=True)
class Sandbox:
    """A pod's namespace and its container."""

    container_id: str
    netns: str


@dataclass(frozen=True)
class Plugin:
    """One of the plugins compared: its executable, its configuration in a file, what else it needs."""

    executable: Path
    conf: Path
    env: Mapping[str, str]

    @classmethod
    def written(cls, executable: Path, conf: Mapping[str, Any], folder: Path, **env: str) -> "Plugin":
        """A plugin whose configuration is written into `folder`."""
        file = folder / f"{conf['name']}.json"
        file.write_text(json.dumps(conf))
        return cls(executable, file, env)

    def start(self, verb: str, sandbox: Sandbox, output: Path) -> int:
        """Start one call in the namespace that the calling thread is in; the process's id."""
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": sandbox.container_id,
            "CNI_NETNS": str(simulated.netns_path(sandbox.netns)),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.executable.parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={sandbox.container_id}",
            "PATH": os.environ["PATH"],
        }
        return self._spawn(env, output)

    def is_ready(self) -> bool:
        """Whether STATUS is a success."""
        _, status = os.waitpid(self._spawn({"CNI_COMMAND": "STATUS"}, Path(os.devnull)), 0)
        return os.waitstatus_to_exitcode(status) == 0

    def _spawn(self, env: Mapping[str, str], output: Path) -> int:
        return os.posix_spawn(
            self.executable,
            [str(self.executable)],
            {**env, **self.env},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, str(self.conf), os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            ],
        )


class Caller:
    """Makes calls from inside a host's namespace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def one(self, plugin: Plugin, verb: str, sandbox: Sandbox) -> float:
        """How long one call takes, in seconds. Raises RuntimeError where it fails."""
        output = self._folder / "output"
        started = time.perf_counter()
        pid = plugin.start(verb, sandbox, output)
        _, status = os.waitpid(pid, 0)
        taken = time.perf_counter() - started
        _succeeded(status, output)
        return taken

    def many(self, plugin: Plugin, verb: str, sandboxes: Sequence[Sandbox], at_once: int) -> float:
        """How long these calls take together, `at_once` at any time, in seconds. Raises RuntimeError."""
        waiting = list(enumerate(sandboxes))[::-1]
        poll, running = select.poll(), dict[int, tuple[int, Path]]()
        started = time.perf_counter()
        while waiting or running:
            while waiting and len(running) < at_once:
                number, sandbox = waiting.pop()
                output = self._folder / f"output-{number}"
                pid = plugin.start(verb, sandbox, output)
                ending = os.pidfd_open(pid)
                poll.register(ending, select.POLLIN)
                running[ending] = pid, output
            for ending, _ in poll.poll():
                poll.unregister(ending)
                os.close(ending)
                pid, output = running.pop(ending)
                _, status = os.waitpid(pid, 0)
                _succeeded(status, output)
        return time.perf_counter() - started


def _succeeded(status: int, output: Path) -> None:
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"a call failed: {output.read_text()}")


@contextmanager
def sandboxes(prefix: str, count: int) -> Iterator[list[Sandbox]]:
    """`count` pods' namespaces while the context lasts, named so that no other run has them."""
    made: list[Sandbox] = []
    try:
        for number in range(count):
            sandbox = Sandbox(f"{prefix}-{number}", f"{prefix}-{number}")
            simulated.create_netns(sandbox.netns)
            made.append(sandbox)
        yield made
    finally:
        for sandbox in made:
            simulated.remove_netns(sandbox.netns)


@contextmanager
def inside_host(netns: str) -> Iterator[None]:
    """Let the calling thread, and what it starts, be on this host."""
    with Netns(str(simulated.netns_path(netns))) as host, host.entered():
        yield
