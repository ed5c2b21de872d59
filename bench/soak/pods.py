"""The pods of one slot as kubelet and a container runtime treat them.

A failed ADD, or one of unknown outcome, is followed by a DEL of that sandbox and tried again with a new one;
a failed DEL is repeated. Only the plan ends a pod.
"""

import threading
import time
import uuid
from collections.abc import Callable

from bench.soak.ledger import Ledger, Violation
from bench.soak.plan import PodStep, Slot, Verb
from bench.soak.sandbox import AGAIN, Answer, Caller, Sandbox

ADD_AGAIN_S = 0.5
DEL_AGAIN_S = 0.5


class Pods:
    """All sandboxes there are, and those that were; for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sandboxes: list[Sandbox] = []

    def add(self, sandbox: Sandbox) -> None:
        """One more, with its namespace."""
        with self._lock:
            self._sandboxes.append(sandbox)

    @property
    def existing(self) -> list[Sandbox]:
        """Those whose namespace is there."""
        with self._lock:
            return [sandbox for sandbox in self._sandboxes if sandbox.exists]


class SlotRuntime:
    """Carries out the steps of one slot, one after another."""

    def __init__(
        self,
        slot: Slot,
        pods: Pods,
        caller: Caller,
        ledger: Ledger,
        new: Callable[[str, str, str], Sandbox],
    ) -> None:
        """`new` makes a sandbox, without its namespace, of owner, network and node."""
        self.slot = slot
        self.running: Sandbox | None = None
        self.doing = ""
        self._kill_add_s: float | None = None
        self._pods, self._caller, self._ledger, self._new = pods, caller, ledger, new

    def take(self, step: PodStep) -> None:
        """Carry out one step, however long it takes."""
        self.doing = f"{step.verb} {self.slot.name} on {step.node} (planned for {step.at_s:.1f} s)"
        self._ledger.note("step", verb=step.verb, slot=self.slot.name, node=step.node)
        before, self._kill_add_s = self.running, step.kill_add_s
        match step.verb:
            case Verb.START:
                self._start(step)
            case Verb.STOP:
                self._stop(step)
            case Verb.MOVE:
                self._stop(step)
                self._start(step)
            case Verb.RECREATE:
                self._stop(step)
                self._start(step, before.owner if before is not None else None)
            case Verb.HASTY_MOVE:
                begun = self._attempt(step)
                self._stop(step)
                self.running = begun
                self._start(step)
            case Verb.TAKE_OVER:
                self._take_over(step)
            case Verb.VANISH:
                self._vanish()
        if step.late_del_s is not None and before is not None and step.verb is not Verb.VANISH:
            time.sleep(step.late_del_s)
            self._caller.call("DEL", before, with_netns=False)
        self.doing = ""
        self._ledger.did()

    def end(self) -> None:
        """End the pod, if there is one: the soak is over."""
        if self.running is not None:
            self.doing = f"end {self.slot.name}"
            self._delete(self.running, None)
            self.running = None
            self.doing = ""

    def _start(self, step: PodStep, owner: str | None = None) -> None:
        while self.running is None:
            self.running = self._attempt(step, owner)
            if self.running is None:
                time.sleep(ADD_AGAIN_S)

    def _stop(self, step: PodStep) -> None:
        if self.running is not None:
            self._delete(self.running, step.kill_del_s)
            self.running = None

    def _take_over(self, step: PodStep) -> None:
        """A member of a StatefulSet loses its old endpoint here; a replica has two for a while."""
        old, self.running = self.running, None
        if old is None:
            return
        old.told = None
        self._start(step, old.owner)
        self._delete(old, step.kill_del_s)

    def _vanish(self) -> None:
        if self.running is not None:
            self._ledger.note("vanished", container_id=self.running.container_id)
            self.running.remove()
            self.running = None

    def _attempt(self, step: PodStep, owner: str | None = None) -> Sandbox | None:
        """One ADD; its sandbox where that succeeded. Of any other nothing is left."""
        owner = owner or self.slot.owner(step.generation)
        sandbox = self._new(owner, self.slot.network, step.node)
        sandbox.create()
        self._pods.add(sandbox)
        kill_after_s, self._kill_add_s = self._kill_add_s, None
        answer = self._caller.call("ADD", sandbox, kill_after_s=kill_after_s)
        if answer.ok:
            sandbox.told = answer.told()
            return sandbox
        self._judge("ADD", sandbox, answer)
        self._delete(sandbox, None)
        return None

    def _delete(self, sandbox: Sandbox, kill_after_s: float | None) -> None:
        sandbox.told = None
        while not (answer := self._caller.call("DEL", sandbox, kill_after_s=kill_after_s)).ok:
            self._judge("DEL", sandbox, answer)
            kill_after_s = None
            time.sleep(DEL_AGAIN_S)
        sandbox.remove()

    def _judge(self, verb: str, sandbox: Sandbox, answer: Answer) -> None:
        """All that is killed here comes back: nothing but "try again later" may be said."""
        if answer.status is not None and answer.code != AGAIN:
            seen = f"{verb} of {sandbox.owner} {sandbox.container_id} on {sandbox.node}: {answer.body}"
            self._ledger.violated(Violation("a call failed for good", seen))


def container_id() -> str:
    """A new container's id."""
    return uuid.uuid4().hex
