"""What a soak will do and when, made of its seed alone before anything runs. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

NODES = ("node-1", "node-2", "node-3")
ALLOCATORS = ("allocator-1", "allocator-2")
BROKER, DATABASE = "rabbitmq", "mariadb"
PROCESSES = (*ALLOCATORS, *NODES)

QUIET_S = 15.0
"""How long nothing is killed at first. RabbitMQ may lose a queue that was declared a moment before."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one pod at a time: a member of a StatefulSet, or one replica of a Deployment."""

    name: str
    network: str
    pinned: bool

    def owner(self, generation: int) -> str:
        """Whose pod it is; a replica has a new name each time."""
        return f"shop/{self.name}" if self.pinned else f"bank/{self.name}-{generation}"


SLOTS = (
    *(Slot(f"web-{number}", "tunnels", pinned=True) for number in range(8)),
    *(Slot(f"db-{number}", "dual", pinned=True) for number in range(5)),
    *(Slot(f"api-{number}", "tunnels", pinned=False) for number in range(6)),
    *(Slot(f"job-{number}", "dual", pinned=False) for number in range(5)),
)


class Verb(StrEnum):
    """What happens to the pod of a slot."""

    START = "start"
    STOP = "stop"
    MOVE = "move"
    """Ended, and begun again on another node."""
    HASTY_MOVE = "hasty move"
    """Begun on another node while it still runs on the first one."""
    RECREATE = "recreate"
    """Its sandbox ends, and it gets a new one on the same node."""
    TAKE_OVER = "take over"
    """It gets a new sandbox while the old one is still there, whose DEL comes late."""
    VANISH = "vanish"
    """Its namespace goes, and no DEL ever comes."""


@dataclass(frozen=True, slots=True)
class PodStep:
    """Something that happens to a pod, `at_s` seconds after the start, or as soon as its last step is done.

    The executable of the first ADD, or DEL, is killed after that many seconds unless it was faster.
    `late_del_s`: the old sandbox's DEL comes once more, so many seconds later.
    """

    at_s: float
    slot: Slot
    verb: Verb
    node: str
    generation: int
    kill_add_s: float | None = None
    kill_del_s: float | None = None
    late_del_s: float | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """A process is killed, and started again after `down_s` seconds."""

    at_s: float
    target: str
    down_s: float


@dataclass(frozen=True, slots=True)
class Cut:
    """All connections of one process to the broker or to the database are reset."""

    at_s: float
    target: str
    server: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """A process stands still for `for_s` seconds, and then goes on as if nothing had happened."""

    at_s: float
    target: str
    for_s: float


class Errand(StrEnum):
    """What an operator asks for, and some time later takes back."""

    RESERVE = "reserve"
    POOL = "pool"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class OperatorStep:
    """An errand, and how long it stands before it is taken back, in seconds."""

    at_s: float
    errand: Errand
    number: int
    stands_s: float


Fault = Kill | Cut | Freeze
Step = PodStep | Fault | OperatorStep

_PODS_APART_S = 0.6
_AROUND_A_FAULT = 5
"""How many steps begin a moment before each fault: alone, a call of 20 ms would hardly ever meet one."""
_MOMENT_S = (-0.08, 0.02)
_FAULTS_APART_S = 5.0
_ERRANDS_APART_S = 4.0
_SHIM_KILLED = 0.06
_LATE_DEL = 0.3
_CUTS, _FREEZES = 0.25, 0.1
_FROZEN_S = 15.0
"""Long enough for connections to be given up at the other end."""
_KILLS = {**dict.fromkeys(ALLOCATORS, 3), **dict.fromkeys(NODES, 3), DATABASE: 3, BROKER: 2}
_DOWN_S = {DATABASE: 4.0, BROKER: 3.0}
_REST_S = {DATABASE: 20.0, BROKER: 40.0}
"""Between two kills of one server, so that something can happen in between."""


def plan(seed: int, seconds: float) -> list[Step]:
    """All steps in the order of their times: the same for the same arguments."""
    random = Random(seed)
    faults = list(_faults(random, seconds))
    usual = ((at, "") for at in _times(random, 3.0, seconds, _PODS_APART_S))
    moments = sorted([*usual, *_around(random, faults)])
    steps: list[Step] = [*faults, *_pods(random, moments), *_errands(random, seconds)]
    return sorted(steps, key=lambda step: step.at_s)


def _times(random: Random, since: float, until: float, apart_s: float) -> Iterator[float]:
    at = since
    while (at := at + random.expovariate(1 / apart_s)) < until:
        yield at


def _around(random: Random, faults: Iterable[Fault]) -> Iterator[tuple[float, str]]:
    """When something happens to a pod because of a fault, and to whom it happens."""
    for fault in faults:
        for _ in range(_AROUND_A_FAULT):
            yield fault.at_s + random.uniform(*_MOMENT_S), fault.target


def _pods(random: Random, moments: Iterable[tuple[float, str]]) -> Iterator[PodStep]:
    """Every slot begins at once; each step is one that its pod's whereabouts allow.

    Where something happens to a node, it is a pod of that node, if there is one.
    """
    where: dict[Slot, str | None] = dict.fromkeys(SLOTS)
    generations = dict.fromkeys(SLOTS, 0)
    for slot in SLOTS:
        where[slot] = random.choice(NODES)
        yield PodStep(random.uniform(0, 3), slot, Verb.START, where[slot] or "", 0)
    for at, target in moments:
        slot = random.choice([slot for slot in SLOTS if where[slot] == target] or SLOTS)
        here = where[slot]
        verb, node = _verb(random, here)
        generations[slot] += 1
        where[slot] = None if verb in (Verb.STOP, Verb.VANISH) else node
        yield PodStep(
            at,
            slot,
            verb,
            node,
            generations[slot],
            kill_add_s=_soon(random, 0.05),
            kill_del_s=_soon(random, 0.04),
            late_del_s=random.uniform(0, 4) if random.random() < _LATE_DEL else None,
        )


def _verb(random: Random, here: str | None) -> tuple[Verb, str]:
    if here is None:
        return Verb.START, random.choice(NODES)
    verbs = [Verb.STOP, Verb.MOVE, Verb.HASTY_MOVE, Verb.RECREATE, Verb.TAKE_OVER, Verb.VANISH]
    (verb,) = random.choices(verbs, [5, 6, 4, 4, 4, 0.5])
    away = verb in (Verb.MOVE, Verb.HASTY_MOVE)
    return verb, random.choice([node for node in NODES if node != here]) if away else here


def _soon(random: Random, most_s: float) -> float | None:
    chosen, after = random.random() < _SHIM_KILLED, random.uniform(0, most_s)
    return after if chosen else None


def _faults(random: Random, seconds: float) -> Iterator[Fault]:
    busy_until = dict.fromkeys(_KILLS, 0.0)
    for at in _times(random, min(QUIET_S, seconds / 3), seconds - 1, _FAULTS_APART_S):
        chosen = random.random()
        if chosen < _CUTS:
            target = random.choice(PROCESSES)
            server = random.choice([BROKER, DATABASE]) if target in ALLOCATORS else BROKER
            yield Cut(at, target, server)
            continue
        if chosen < _CUTS + _FREEZES:
            yield Freeze(at, random.choice([*PROCESSES, DATABASE]), random.uniform(0.2, _FROZEN_S))
            continue
        (target,) = random.choices(list(_KILLS), list(_KILLS.values()))
        down_s = random.uniform(0, _DOWN_S.get(target, 7.0))
        if at >= busy_until[target]:
            busy_until[target] = at + down_s + _REST_S.get(target, 3.0)
            yield Kill(at, target, down_s)


def _errands(random: Random, seconds: float) -> Iterator[OperatorStep]:
    for number, at in enumerate(_times(random, 5.0, seconds, _ERRANDS_APART_S)):
        (errand,) = random.choices(list(Errand), [4, 2, 1])
        yield OperatorStep(at, errand, number, random.uniform(0, 6))
