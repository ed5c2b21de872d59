"""What may be seen in the pods' namespaces, and what may not. Pure.

An address is **live** in a namespace when its kernel has it on a link that has a carrier: only then can it be
heard on the network. The promise leaves no room for two: a node cuts an endpoint, which takes the carrier
away, before it sends the release, and another pod has the address after that. So no overlap is legitimate,
however short. (A node that an operator declared off while it ran would be the exception; a soak does not.)

Namespaces are read one after another. Two that had an address when each was read may have had it one after
the other; if the one that was read first still has it when it is read once more, it had it all the time, for
a sandbox is attached once at most.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bench.soak.ledger import Violation
from bench.soak.sandbox import Told
from schemas.fields import IPAddress


@dataclass(frozen=True, slots=True)
class Look:
    """The interface in one namespace, read between `at` and `until`; no address where there is none."""

    at: datetime
    until: datetime
    owner: str
    network: str
    node: str
    container_id: str
    addresses: frozenset[IPAddress] = frozenset()
    mac: str | None = None
    carrier: bool = False
    told: Told | None = None
    """What the runtime relied on, before and after the reading."""

    @property
    def live(self) -> frozenset[IPAddress]:
        """The addresses that can be heard from here."""
        return self.addresses if self.carrier else frozenset()

    def __str__(self) -> str:
        has = ", ".join(sorted(map(str, self.addresses))) or "no address"
        heard = "with" if self.carrier else "without"
        return (
            f"{self.owner} ({self.container_id} on {self.node}) at {self.at:%H:%M:%S.%f}: {has}, "
            f"MAC {self.mac}, {heard} carrier"
        )


@dataclass(frozen=True, slots=True)
class Clash:
    """Two namespaces of one network that both had an address when each was read, the earlier one first."""

    address: IPAddress
    first: Look
    second: Look

    def confirmed(self, again: Look | None) -> Violation | None:
        """What it comes to once the first namespace was read again, which is None if it is away."""
        if again is None or self.address not in again.live:
            return None
        seen = f"{self.address} of network {self.first.network}: {self.first}; {self.second}; again {again}"
        return Violation("an address is live twice", seen)


def clashes(looks: Sequence[Look]) -> list[Clash]:
    """All pairs of one round, whose looks are in the order in which they were taken."""
    holders: dict[tuple[str, IPAddress], list[Look]] = defaultdict(list)
    for look in looks:
        for address in look.live:
            holders[look.network, address].append(look)
    return [
        Clash(address, first, second)
        for (_, address), several in holders.items()
        for at, first in enumerate(several)
        for second in several[at + 1 :]
    ]


def broken(look: Look) -> Violation | None:
    """An endpoint that its runtime relies on must be there, as it was told, and be heard."""
    if look.told is None:
        return None
    if look.live == look.told.addresses and look.mac == look.told.mac:
        return None
    told = ", ".join(sorted(map(str, look.told.addresses)))
    return Violation("a pod lost its endpoint", f"{look}; its runtime was told {told}, MAC {look.told.mac}")


@dataclass
class Seen:
    """When each address was live in each container for certain: by the end of the first look that saw it, and
    at the beginning of the last one.
    """

    spans: dict[tuple[str, str, IPAddress], tuple[datetime, datetime]] = field(default_factory=dict)
    """By network, container and address."""

    def add(self, looks: Iterable[Look]) -> None:
        """Go on with these, which are later than those before."""
        for look in looks:
            for address in look.live:
                key = (look.network, look.container_id, address)
                first, _ = self.spans.get(key, (look.until, look.at))
                self.spans[key] = (first, look.at)
