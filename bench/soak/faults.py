"""Kills processes and starts them again, stops them for a while and cuts connections, as the plan says."""

import os
import signal
import threading

from bench.soak.actor import Actor
from bench.soak.ledger import Ledger, Violation
from bench.soak.plan import Cut, Fault, Freeze, Kill
from bench.soak.world import Target, World

_TAIL = 15


class Faults:
    """One actor for each process: to start a server takes long, and others are killed meanwhile."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world, self._ledger = world, ledger
        self._actors = {name: Actor(f"fault {name}", ledger) for name in world.targets}
        self._over = threading.Event()

    def give(self, step: Fault) -> None:
        """Have it carried out at once, or as soon as the process runs again."""
        self._actors[step.target].give(lambda: self._carry_out(step))

    def over(self, limit_s: float) -> bool:
        """Nothing is down for longer than it must from now on; whether all run again within `limit_s`."""
        self._over.set()
        return all(actor.wait(limit_s) for actor in self._actors.values())

    def check(self) -> None:
        """A process that ended and was not killed has a bug. For when nothing is being killed."""
        for target in self._world.targets.values():
            self._check(target)

    def _carry_out(self, step: Fault) -> None:
        if self._over.is_set():
            return  # a server took so long to start that its next turn never came
        target = self._world.targets[step.target]
        self._check(target)
        match step:
            case Cut():
                self._ledger.cut(step.target, step.server)
                self._world.cut(step.target, step.server)
            case Freeze():
                self._freeze(target, step.for_s)
            case Kill():
                self._kill(target, step.down_s)

    def _kill(self, target: Target, down_s: float) -> None:
        self._ledger.killed(target.name, down_s=round(down_s, 3))
        target.victim.kill()
        self._over.wait(down_s)
        target.victim.start()
        self._ledger.note("started", what=target.name)

    def _freeze(self, target: Target, for_s: float) -> None:
        self._ledger.note("frozen", what=target.name, for_s=round(for_s, 3))
        pids = target.pids()
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            self._over.wait(for_s)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        self._ledger.note("goes on", what=target.name)

    def _check(self, target: Target) -> None:
        if not target.runs:
            said = target.log.read_text(errors="replace").splitlines()[-_TAIL:] if target.log.exists() else []
            self._ledger.violated(Violation("a process ended by itself", "\n".join([target.name, *said])))
            target.victim.kill()
            target.victim.start()
