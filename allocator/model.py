"""What the allocator thinks in: frozen facts about networks, pools, ranges and allocations. No I/O."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from schemas.address import AllocationState
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition, Subnet
from schemas.pool import DEFAULT_POOL, AddressRange, Policy

_EPOCH_BITS = 40


@dataclass(frozen=True, slots=True)
class Pool:
    """A named set of ranges with a policy; `owners` empty means: every owner the network allows."""

    id: int
    name: str
    policy: Policy
    owners: tuple[str, ...]
    cooldown_s: int

    @property
    def is_default(self) -> bool:
        """Whether this is the pool of what no other pool carved out."""
        return self.name == DEFAULT_POOL

    @property
    def is_restricted(self) -> bool:
        """Whether only named owners may use it: there, cooldown is a preference and no wall."""
        return bool(self.owners)


@dataclass(frozen=True, slots=True)
class Network:
    """A network with its pools, as read under the row lock."""

    id: int
    name: str
    state: str
    version: int
    definition: NetworkDefinition
    pools: tuple[Pool, ...]

    @property
    def families(self) -> tuple[int, ...]:
        """The IP versions an attachment gets one address of each of."""
        return tuple(sorted({subnet.cidr.version for subnet in self.definition.subnets}))

    def subnet_of(self, address: IPAddress) -> Subnet:
        """The subnet that holds `address`."""
        for subnet in self.definition.subnets:
            if address.version == subnet.cidr.version and address in subnet.cidr:
                return subnet
        raise LookupError(f"{address} lies in no subnet of {self.name}")

    def pool(self, pool_id: int) -> Pool:
        """The pool with this id."""
        return next(pool for pool in self.pools if pool.id == pool_id)


@dataclass(frozen=True, slots=True)
class Range:
    """A run of addresses of one pool. `cursor` is the next never-used address, None past the end."""

    pool_id: int
    first: IPAddress
    last: IPAddress
    cursor: IPAddress | None
    used: int = 0
    id: int | None = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.first.version

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return int(self.last) - int(self.first) + 1

    def span(self) -> AddressRange:
        """The same run as it travels."""
        return AddressRange(first=self.first, last=self.last)


@dataclass(frozen=True, slots=True)
class Allocation:
    """The durable row of an address that was ever used."""

    id: int
    range_id: int
    pool_id: int
    network_id: int
    address: IPAddress
    state: AllocationState
    since: datetime
    owner: str | None
    pinned_owner: str | None
    ifname: str | None
    mac: str | None
    node: str | None
    container_id: str | None
    attachment_id: UUID | None

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.address.version


def next_number(previous: int, epoch: int) -> int:
    """The number after `previous`: its high part is at least the database's epoch, so it never goes back.

    A restored backup raises the epoch; numbers given out after the backup was made stay below new ones.
    """
    return max(previous + 1, (epoch << _EPOCH_BITS) + 1)


def following(address: IPAddress, last: IPAddress) -> IPAddress | None:
    """The address after `address`, or None when `address` is `last`."""
    return None if address == last else address + 1


def pool_mac(address: IPAddress, attempt: int = 0) -> str:
    """The MAC that belongs to `address`, so that peers' neighbour caches stay true when it moves.

    `0a:58` and the four bytes of an IPv4 address. IPv6: `0e:58` and a 32-bit hash; `attempt` names the next
    hash after a collision. Both are unicast and locally administered (IEEE 802c).
    """
    if isinstance(address, IPv4Address):
        tail = address.packed
        head = "0a:58"
    else:
        tail = _hash32(address, attempt)
        head = "0e:58"
    return head + "".join(f":{byte:02x}" for byte in tail)


def _hash32(address: IPv6Address, attempt: int) -> bytes:
    return hashlib.sha256(address.packed + attempt.to_bytes(4, "big")).digest()[:4]
