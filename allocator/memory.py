"""What one batch of a network leaves known for the next one: the network itself, and addresses to pick.

Good for as long as nobody else changes the network, which its history's last number tells: every change
leaves a history row. A memory that is wrong nevertheless costs a transaction that is run again, no more:
unique keys and guarded updates decide, and what is taken out here is not put back until a commit.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic

from allocator.model import Network
from allocator.supply import Supply

_NETWORKS = 256
"""How many networks are kept in mind. A supply holds at most some thousand small objects."""
_DOUBTED = 16
"""How many batches are read first after one for which memory was no guide."""


@dataclass(slots=True)
class Remembered:
    """One network after the last commit, at this `seq` of its history."""

    seq: int
    network: Network
    supplies: dict[tuple[int, int], Supply] = field(default_factory=dict)
    """By pool id and family."""

    def copy(self) -> "Remembered":
        """The same, with supplies of its own."""
        return replace(self, supplies={key: supply.copy() for key, supply in self.supplies.items()})


@dataclass(frozen=True, slots=True)
class Clock:
    """What the database's clock said last, and when that was by our own."""

    told: datetime
    at: float
    epoch: int
    """The database's epoch then."""

    def now(self) -> datetime:
        """The database's time, a little behind: by what it took to hear of it."""
        return self.told + timedelta(seconds=monotonic() - self.at)


class Memory:
    """The networks that one allocator served last."""

    def __init__(self) -> None:
        self._networks: OrderedDict[int, Remembered] = OrderedDict()
        self._ids: dict[str, int] = {}
        self._doubts: dict[int, int] = {}
        self._lock = Lock()
        self.clock: Clock | None = None
        """None before the database was asked, and while it is paused."""

    def hear(self, now: datetime, epoch: int, *, paused: bool) -> None:
        """What the database has just said of itself."""
        self.clock = None if paused else Clock(now, monotonic(), epoch)

    def take(self, network_id: int, seq: int) -> Remembered | None:
        """What is remembered of a network whose history has come to `seq`; nobody else gets it meanwhile."""
        with self._lock:
            found = self._networks.pop(network_id, None)
        return found if found is not None and found.seq == seq else None

    def guess(self, name: str) -> Remembered | None:
        """What a network is like if nobody has changed it; None where that is unknown, or was wrong lately.

        It stays remembered: what is picked from these supplies is picked from copies.
        """
        with self._lock:
            network_id = self._ids.get(name, 0)
            doubts = self._doubts.pop(network_id, 0)
            if doubts > 1:
                self._doubts[network_id] = doubts - 1
            found = self._networks.get(network_id)
        return None if doubts or found is None else found.copy()

    def doubt(self, network_id: int) -> None:
        """A guess about this network was wrong: read first for a while."""
        with self._lock:
            self._doubts[network_id] = _DOUBTED

    def id_of(self, name: str) -> int | None:
        """The id that a network had when it was last remembered."""
        return self._ids.get(name)

    def keep(self, remembered: Remembered) -> None:
        """After the commit: what the next batch may use."""
        with self._lock:
            self._networks[remembered.network.id] = remembered
            self._ids[remembered.network.name] = remembered.network.id
            while len(self._networks) > _NETWORKS:
                _, forgotten = self._networks.popitem(last=False)
                self._ids.pop(forgotten.network.name, None)
                self._doubts.pop(forgotten.network.id, None)
