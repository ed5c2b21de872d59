"""What a page's commands are run on: a stack as `moorage up` starts it, a scratch folder and a shell."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from compose.asking import wait_for_nodes
from compose.settings import Settings
from compose.stack import Stack, running_stack
from tests.acceptance.machines import Machine, Pod
from tests.docs.likeness import alike
from tests.docs.marks import ROOT, Block, Step
from tests.docs.shell import Printed, Shell

_LOOKING = re.compile(
    r"moorage (history|doctor)\b|moorage \w+ (list|show|history|status|map)\b"
    r"|curl -si? \S+ *(#.*)?$|(ip|bridge|grep) "
)
"""Commands that change nothing: what they tell may come a moment later."""
_SETTLED_S = 30


class Stage:
    """One page's stage. `said` has what a page says of paths and times, and what is meant by it here."""

    shell: Shell

    def __init__(self, folders: Callable[[], Path], shim: Path, nodes: int) -> None:
        self._folders, self.shim = folders, shim
        self.undo = ExitStack()
        self.anew(nodes)

    def anew(self, nodes: int) -> None:
        """Begin with a new stack of that many nodes, or with none, in an empty folder."""
        self.close()
        self.undo = ExitStack()
        self.folder = self._folders()
        self.said: dict[str, str] = {}
        self.pods: dict[str, Pod] = {}
        self.last = ""
        """What the last command printed."""
        self._machine: Machine | None = None
        scratch = self.folder / "w"
        scratch.mkdir()
        self.shell = Shell(scratch, self._environment(), self.undo)
        if nodes:
            self._start(nodes)

    def close(self) -> None:
        """Stop what runs."""
        self.undo.close()

    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MOORAGE_")}
        programs = f"{Path(sys.executable).parent}:{inherited['PATH']}"
        return {**inherited, "PATH": programs, "COLUMNS": "500", "PYTHONPATH": str(ROOT)}

    def _start(self, nodes: int) -> None:
        names = [f"node-{number}" for number in range(1, nodes + 1)]
        running = running_stack(Settings().private(), self.folder / "up", names, print)
        stack = self.undo.enter_context(running)
        wait_for_nodes(stack.console, names, stack.check)
        self._machine = Machine(stack, self.shim, self.undo)
        self.must(f"source {stack.env_file}")

    @property
    def machine(self) -> Machine:
        """The stack's machine; a page that starts its own has none."""
        assert self._machine is not None
        return self._machine

    @property
    def stack(self) -> Stack:
        """The running stack."""
        return self.machine.stack

    def must(self, command: str) -> str:
        """What a command prints that prepares something and has to succeed."""
        done = self.shell.run(command)
        assert done.status == 0, f"{command}\n{done.text}"
        return done.text

    def export(self, **variables: object) -> None:
        """Set variables of the shell."""
        for name, value in variables.items():
            self.must(f"export {name}='{value}'")

    def attach(self, owner: str, node: str, network: str = "prod") -> Pod:
        """A pod that is attached; on the page it is known by its owner."""
        pod = Pod(self.machine, owner, node, network)
        pod.add()
        self.pods[owner] = pod
        return pod

    def netns(self, place: str) -> Path:
        """The network namespace of a node or of a pod, by name."""
        if place in self.pods:
            return Path("/run/netns") / self.pods[place].netns
        return self.machine.node(place).host.path

    def play(self, block: Block, meanwhile: Callable[["Stage"], None]) -> None:
        """Do what the mark says. Fails where something else comes of it than the page shows.

        `meanwhile` is done once a command that does not end has printed its first line.
        """
        if block.kind == "file":
            target = self.shell.folder / block.options["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self._meant(block.text))
        elif block.kind == "output":
            wrong = self._unlike(block, block.text, self.last)
            assert wrong is None, wrong
        elif "until" in block.options:
            (step,) = block.steps
            running = self.shell.start(self._meant(step.command))
            running.wait_for("\n")
            meanwhile(self)
            self.last = running.wait_for(block.options["until"].replace("_", " "))
        else:
            for step, status in zip(block.steps, block.statuses, strict=True):
                self._step(block, step, status)

    def _step(self, block: Block, step: Step, status: int) -> None:
        command, place = self._meant(step.command), block.options.get("at")
        deadline = time.monotonic() + _SETTLED_S
        while True:
            done = self._run(command, place)
            self.last = done.text
            wrong = self._wrong(block, step, done, status)
            if wrong is None:
                return
            assert _LOOKING.match(step.command) and time.monotonic() < deadline, wrong

    def _wrong(self, block: Block, step: Step, done: Printed, status: int) -> str | None:
        """What is not as the page has it."""
        if done.status != status:
            return f"{block.where}: {step.command}\nended with {done.status}, not {status}:\n{done.text}"
        return None if step.shown is None else self._unlike(block, step.shown, done.text, step.command)

    def _run(self, command: str, place: str | None) -> Printed:
        if place is None:
            return self.shell.run(command)
        argv = ["nsenter", f"--net={self.netns(place)}", "bash", "-o", "pipefail", "-c", command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return Printed(done.returncode, done.stdout + done.stderr)

    def _unlike(self, block: Block, shown: str, printed: str, command: str = "") -> str | None:
        for says, means in sorted(self.said.items(), key=lambda pair: -len(pair[1])):
            printed = printed.replace(means, says)
        if alike(shown, printed, in_order=block.options.get("order") != "any"):
            return None
        return f"{block.where} is not what is printed\n$ {command}\n{printed}\n--- but:\n{shown}"

    def _meant(self, text: str) -> str:
        for says, means in self.said.items():
            text = text.replace(says, means)
        return text
