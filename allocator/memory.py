"""What one batch of a network leaves known for the next one: the network itself, and addresses to pick.

Good for as long as nobody else changes the network, which its history's last number tells: every change
leaves a history row. A memory that is wrong nevertheless costs a transaction that is run again, no more:
unique keys and guarded updates decide, and what is taken out here is not put back until a commit.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from allocator.model import Network
from allocator.supply import Supply

_NETWORKS = 256
"""How many networks are kept in mind. A supply holds at most some thousand small objects."""


@dataclass(slots=True)
class Remembered:
    """One network after the last commit, at this `seq` of its history."""

    seq: int
    network: Network
    supplies: dict[tuple[int, int], Supply] = field(default_factory=dict)
    """By pool id and family."""


class Memory:
    """The networks that one allocator served last."""

    def __init__(self) -> None:
        self._networks: OrderedDict[int, Remembered] = OrderedDict()
        self._ids: dict[str, int] = {}
        self._lock = Lock()

    def take(self, network_id: int, seq: int) -> Remembered | None:
        """What is remembered of a network whose history has come to `seq`; nobody else gets it meanwhile."""
        with self._lock:
            found = self._networks.pop(network_id, None)
        return found if found is not None and found.seq == seq else None

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
