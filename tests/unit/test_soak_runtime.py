"""How a soak's runtime treats its pods, and what it takes for a violation."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench.soak import pods as runtime
from bench.soak.actor import Actor
from bench.soak.faults import Faults
from bench.soak.ledger import Ledger
from bench.soak.letters import violation_of
from bench.soak.plan import SLOTS, Freeze, Kill, PodStep, Verb
from bench.soak.pods import Pods, SlotRuntime
from bench.soak.sandbox import Answer, Sandbox
from bench.soak.world import Target

WEB = SLOTS[0]
RESULT = {
    "interfaces": [{"name": "mo1"}, {"name": "eth0", "mac": "0A:58:0A:00:00:0A", "sandbox": "/n"}],
    "ips": [{"address": "10.0.0.10/24"}],
}
OK, AWAY, KILLED = Answer(0, RESULT), Answer(1, {"code": 11}), Answer(None, {})


class SandboxWithoutNetns(Sandbox):
    """One that makes nothing."""

    def create(self) -> None:
        self.exists = True

    def remove(self) -> None:
        self.told, self.exists = None, False


@dataclass
class Calls:
    """Answers calls as it was told, else with success; keeps what was called."""

    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def call(
        self, verb: str, sandbox: Sandbox, *, with_netns: bool = True, kill_after_s: float | None = None
    ) -> Answer:
        how = ("" if with_netns else " without netns") + (" killed" if kill_after_s is not None else "")
        self.made.append(f"{verb} {sandbox.container_id} on {sandbox.node}{how}")
        waiting = self.answers.get((verb, sandbox.container_id), [])
        return waiting.pop(0) if waiting else OK


@dataclass
class Scene:
    """A slot with such calls. Its containers are c1, c2 ..."""

    ledger: Ledger
    calls: Calls = field(default_factory=Calls)
    pods: Pods = field(default_factory=Pods)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        caller: Any = self.calls
        self.slot = SlotRuntime(WEB, self.pods, caller, self.ledger, self._new)

    def _new(self, owner: str, network: str, node: str) -> Sandbox:
        name = f"c{next(self.numbers)}"
        return SandboxWithoutNetns(owner, network, node, Path("/s"), name, name)

    def take(self, verb: Verb, node: str = "a", **more: Any) -> list[str]:
        """What is called for a step."""
        before = len(self.calls.made)
        self.slot.take(PodStep(0, WEB, verb, node, 0, **more))
        return self.calls.made[before:]

    def rules(self) -> list[str]:
        return [violation.rule for violation in self.ledger.violations]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "events.jsonl")


@pytest.fixture
def scene(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(runtime, "ADD_AGAIN_S", 0)
    monkeypatch.setattr(runtime, "DEL_AGAIN_S", 0)
    return Scene(ledger)


@pytest.mark.parametrize("answer", [AWAY, KILLED])
def test_a_failed_add_is_deleted_and_tried_again_with_a_new_sandbox(scene: Scene, answer: Answer) -> None:
    scene.calls.answers["ADD", "c1"] = [answer]
    assert scene.take(Verb.START) == ["ADD c1 on a", "DEL c1 on a", "ADD c2 on a"]
    assert [pod.container_id for pod in scene.pods.existing] == ["c2"]
    assert scene.rules() == []


@pytest.mark.parametrize("answer", [AWAY, KILLED])
def test_a_failed_del_is_repeated(scene: Scene, answer: Answer) -> None:
    scene.take(Verb.START)
    scene.calls.answers["DEL", "c1"] = [answer, answer]
    assert scene.take(Verb.STOP) == ["DEL c1 on a"] * 3
    assert scene.pods.existing == []


def test_only_the_first_call_of_a_step_is_killed(scene: Scene) -> None:
    scene.calls.answers["ADD", "c1"] = [KILLED]
    made = scene.take(Verb.START, kill_add_s=0.1)
    assert made == ["ADD c1 on a killed", "DEL c1 on a", "ADD c2 on a"]


def test_what_was_told_counts_from_the_result_to_the_del(scene: Scene) -> None:
    scene.take(Verb.START)
    (pod,) = scene.pods.existing
    assert pod.told is not None
    assert (pod.told.mac, {str(one) for one in pod.told.addresses}) == ("0a:58:0a:00:00:0a", {"10.0.0.10"})
    scene.take(Verb.STOP)
    assert pod.told is None


@pytest.mark.parametrize(
    ("verb", "node", "made"),
    [
        (Verb.MOVE, "b", ["DEL c1 on a", "ADD c2 on b"]),
        (Verb.RECREATE, "a", ["DEL c1 on a", "ADD c2 on a"]),
        (Verb.HASTY_MOVE, "b", ["ADD c2 on b", "DEL c1 on a"]),
        (Verb.TAKE_OVER, "a", ["ADD c2 on a", "DEL c1 on a"]),
        (Verb.VANISH, "a", []),
    ],
)
def test_each_step_makes_its_calls(scene: Scene, verb: Verb, node: str, made: list[str]) -> None:
    scene.take(Verb.START)
    assert scene.take(verb, node) == made
    assert len(scene.pods.existing) == (0 if verb is Verb.VANISH else 1)


def test_a_late_del_comes_after_the_successor_and_without_a_namespace(scene: Scene) -> None:
    scene.take(Verb.START)
    made = scene.take(Verb.RECREATE, late_del_s=0.0)
    assert made[-1] == "DEL c1 on a without netns"


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_call_that_fails_for_good_is_a_violation(scene: Scene, verb: str) -> None:
    scene.calls.answers[verb, "c1"] = [Answer(1, {"code": 104})]
    scene.take(Verb.START)
    scene.take(Verb.STOP)
    assert scene.rules() == ["a call failed for good"]


def test_an_actor_does_one_thing_after_another_and_says_what_failed(ledger: Ledger) -> None:
    actor, done = Actor("web-0", ledger), list[int]()
    actor.give(lambda: done.append(1))
    actor.give(lambda: done.append(1 // 0))
    actor.give(lambda: done.append(3))
    assert actor.wait(30)
    assert done == [1, 3]
    assert [violation.rule for violation in ledger.violations] == ["the soak itself failed"]


def test_an_actor_that_gets_nowhere_is_noticed(ledger: Ledger) -> None:
    actor, going_on = Actor("web-0", ledger), threading.Event()
    actor.give(lambda: going_on.wait(30) and None)
    assert not actor.wait(0.05)
    going_on.set()
    assert actor.wait(30)


@dataclass
class Process:
    """Runs or does not."""

    runs: bool = True
    did: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.runs = True
        self.did.append("start")

    def kill(self) -> None:
        self.runs = False
        self.did.append("kill")


def faults(process: Process, ledger: Ledger, log: Path) -> Faults:
    target = Target("allocator-1", process, lambda: [1] if process.runs else [], 1, log)
    world: Any = type("World", (), {"targets": {"allocator-1": target}})
    return Faults(world, ledger)


def test_a_process_is_killed_and_started_again(ledger: Ledger, tmp_path: Path) -> None:
    process = Process()
    killing = faults(process, ledger, tmp_path / "log")
    killing.give(Kill(0, "allocator-1", 0.01))
    assert killing._actors["allocator-1"].wait(30)
    assert process.did == ["kill", "start"]
    assert (ledger.kills, ledger.violations) == (1, ())


def test_a_process_that_ended_by_itself_is_a_violation(ledger: Ledger, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\n")
    faults(Process(runs=False), ledger, log).check()
    (violation,) = ledger.violations
    assert violation.rule == "a process ended by itself"
    assert "Traceback" in violation.seen


def test_no_fault_comes_once_they_are_over(ledger: Ledger, tmp_path: Path) -> None:
    process = Process()
    killing = faults(process, ledger, tmp_path / "log")
    assert killing.over(30)
    killing.give(Kill(0, "allocator-1", 0.01))
    killing.give(Freeze(0, "allocator-1", 0.01))
    assert killing.over(30)
    assert process.did == []


def test_a_dead_letter_is_a_violation_that_tells_its_story() -> None:
    violation = violation_of({"payload": "{}", "properties": {"headers": {"x-moorage-reason": "why"}}})
    assert violation.rule == "a dead letter"
    assert "why" in violation.seen


def test_a_violation_counts_once_however_often_it_is_seen(ledger: Ledger) -> None:
    violation = violation_of({"payload": "{}", "properties": {}})
    ledger.violated(violation, violation)
    ledger.violated(violation)
    assert ledger.violations == (violation,)
