"""One soak: its steps are handed out in time, then everything gets well, and what there is is compared."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import Machine
from bench.soak import evidence, letters, snapshot, stored
from bench.soak.actor import Actor
from bench.soak.agreement import Snapshot, differences
from bench.soak.errands import Operator
from bench.soak.faults import Faults
from bench.soak.history import History, changed_owners, heard_outside
from bench.soak.ledger import Ledger, Violation
from bench.soak.plan import SLOTS, OperatorStep, PodStep, Step, plan
from bench.soak.pods import Pods, SlotRuntime
from bench.soak.sandbox import Caller
from bench.soak.watcher import Watcher
from bench.soak.world import PINNED_POOLS, World, world

GRACE_S = 240.0
"""How long a step may take once nothing is killed any more, and how long it may take until all agree: a pod
that is gone without a DEL is missed for a minute.
"""

_LOOK_S = 1.0
_TICK_S = 0.2
Show = Callable[[str, float], None]
"""Told of the phase, and of how many seconds of it are over."""


@dataclass(frozen=True)
class Soak:
    """What takes part."""

    world: World
    ledger: Ledger
    folder: Path
    show: Show
    pods: Pods
    watcher: Watcher
    faults: Faults
    operator: Operator
    slots: dict[str, SlotRuntime]
    actors: dict[str, Actor]

    def carry_out(self, steps: Sequence[Step], seconds: float) -> None:
        """Hand out each step at its time."""
        begun = time.monotonic()
        for step in steps:
            while (left := begun + step.at_s - time.monotonic()) > 0:
                self.show("soaking", time.monotonic() - begun)
                time.sleep(min(left, _TICK_S))
            self._give(step)
        while time.monotonic() - begun < seconds:
            self.show("soaking", time.monotonic() - begun)
            time.sleep(_TICK_S)

    def _give(self, step: Step) -> None:
        if isinstance(step, PodStep):
            slot, name = self.slots[step.slot.name], step.slot.name
            self.actors[name].give(lambda: slot.take(step))
        elif isinstance(step, OperatorStep):
            self.operator.give(step)
        else:
            self.faults.give(step)

    def recover(self) -> None:
        """Nothing is killed any more: everything comes up, and every step that was begun is finished."""
        begun = time.monotonic()
        if not self.faults.over(GRACE_S):
            self.ledger.violated(Violation("a process did not come up again", "see its log"))
        self._finish("recovering", begun)
        self.operator.finish()

    def agree(self, phase: str) -> None:
        """Until all that there is agrees; what does not within the grace period never will."""
        begun = time.monotonic()
        while True:
            self.show(phase, time.monotonic() - begun)
            taken, found = self._compared()
            if not found:
                return
            if time.monotonic() - begun > GRACE_S:
                self.ledger.violated(*found)
                if taken is not None:
                    evidence.keep_snapshot(self.folder, phase.replace(" ", "-"), taken)
                return
            time.sleep(_LOOK_S)

    def _compared(self) -> tuple[Snapshot | None, list[Violation]]:
        try:
            taken = snapshot.take(self.world, self.pods)
        except Exception as error:  # a server is slow, or a journal was being written: look again
            return None, [Violation("nothing could be compared", f"{type(error).__name__}: {error}")]
        return taken, differences(taken)

    def end_pods(self) -> None:
        """DEL for every pod that is left."""
        for name, slot in self.slots.items():
            self.actors[name].give(slot.end)
        self._finish("ending pods", time.monotonic())

    def _finish(self, phase: str, begun: float) -> None:
        """Until every step is done. Where one is not in time, others are hardly waited for."""
        limit_s = GRACE_S
        for name, actor in self.actors.items():
            self.show(phase, time.monotonic() - begun)
            if not actor.wait(limit_s):
                self.ledger.violated(Violation("a step was never finished", self.slots[name].doing))
                limit_s = 1.0

    def judge(self) -> None:
        """What history and the dead letters tell."""
        if not self.watcher.seen.spans:
            self.ledger.violated(Violation("nothing was watched", f"{self.watcher.rounds} rounds"))
        entries = snapshot.from_database(self.world, stored.history)
        history = History.read(entries)
        self.ledger.violated(
            *history.violations,
            *changed_owners(history, PINNED_POOLS),
            *heard_outside(history, self.watcher.seen.spans),
            *letters.dead_letters(self.world),
        )
        if self.ledger.violations:
            evidence.keep_history(self.folder, entries)


def run(
    machine: Machine, shim: Path, ledger: Ledger, folder: Path, *, seed: int, seconds: float, show: Show
) -> None:
    """Carry out the plan of `seed`; violations stand in the ledger, and in `folder` what they are seen by."""
    steps = plan(seed, seconds)
    evidence.keep_plan(folder, steps)
    with world(machine) as made:
        soak = _soak(made, shim, ledger, folder, show)
        soak.watcher.start()
        soak.operator.start()
        try:
            with ledger.blaming("the soak"):
                _through(soak, steps, seconds)
        finally:
            soak.watcher.stop()
            ledger.note("watched", rounds=soak.watcher.rounds)
            if ledger.violations:
                evidence.keep_processes(folder, made)


def _through(soak: Soak, steps: Sequence[Step], seconds: float) -> None:
    soak.carry_out(steps, seconds)
    soak.recover()
    soak.agree("comparing pods")
    soak.end_pods()
    soak.agree("looking for leaks")
    soak.faults.check()
    soak.judge()


def _soak(world: World, shim: Path, ledger: Ledger, folder: Path, show: Show) -> Soak:
    pods, caller = Pods(), Caller(shim, ledger)
    return Soak(
        world=world,
        ledger=ledger,
        folder=folder,
        show=show,
        pods=pods,
        watcher=Watcher(pods, ledger),
        faults=Faults(world, ledger),
        operator=Operator(world.place.operator, ledger),
        slots={slot.name: SlotRuntime(slot, pods, caller, ledger, world.sandbox) for slot in SLOTS},
        actors={slot.name: Actor(slot.name, ledger) for slot in SLOTS},
    )
