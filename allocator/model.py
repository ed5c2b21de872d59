"""What the allocator thinks in: frozen facts about networks, pools, ranges and allocations. No I/O."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from uuid import UUID

from schemas.address import AllocationState, MapState
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
    retain_s: int | None = None
    allow_mac: bool = False
    version: int = 0

    @property
    def is_default(self) -> bool:
        """Whether this is the pool of what no other pool carved out."""
        return self.name == DEFAULT_POOL

    @property
    def is_restricted(self) -> bool:
        """Whether only named owners may use it: there, cooldown is a preference and no wall."""
        return bool(self.owners)

    @property
    def blank(self) -> MapState:
        """What a map shows for its addresses that nobody has."""
        return "reserved" if self.policy == "reserved" else "free"

    def cooled(self, now: datetime) -> datetime:
        """The latest moment at which an address may have become free to have cooled down by `now`."""
        return now - timedelta(seconds=self.cooldown_s)


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

    def named(self, name: str) -> Pool | None:
        """The pool with this name, if there is one."""
        return next((pool for pool in self.pools if pool.name == name), None)


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
class Attachment:
    """Whom an address is given to: one interface of one container on one node, under its fencing token."""

    attachment_id: UUID
    owner: str
    ifname: str
    node: str
    container_id: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """The durable row of an address that was ever used. `id` is 0 until the row is written."""

    id: int
    range_id: int
    pool_id: int
    network_id: int
    address: IPAddress
    state: AllocationState
    since: datetime
    owner: str | None = None
    pinned_owner: str | None = None
    ifname: str | None = None
    mac: str | None = None
    node: str | None = None
    container_id: str | None = None
    attachment_id: UUID | None = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.address.version

    def attached(self, to: Attachment, pool: Pool, mac: str, now: datetime) -> "Allocation":
        """The row once `to` has it; in a pinned pool it is its owner's from then on."""
        return replace(
            self,
            state="attached",
            since=now,
            owner=to.owner,
            pinned_owner=to.owner if pool.policy == "pinned" else None,
            ifname=to.ifname,
            mac=mac,
            node=to.node,
            container_id=to.container_id,
            attachment_id=to.attachment_id,
        )

    def reserved(self, owner: str, ifname: str, mac: str | None, now: datetime) -> "Allocation":
        """The row once it waits for `owner`."""
        return replace(
            self.freed(now), state="waiting", owner=owner, pinned_owner=owner, ifname=ifname, mac=mac
        )

    def detached(self, now: datetime) -> "Allocation":
        """The row without its attachment: a pinned one waits for its owner, another is free."""
        if self.pinned_owner is None:
            return self.freed(now)
        return replace(self, state="waiting", since=now, node=None, container_id=None, attachment_id=None)

    def freed(self, now: datetime) -> "Allocation":
        """The row once nobody has it. It keeps its last owner, for people to see and for that owner to come
        back to, and no MAC, so that the MAC is free as well.
        """
        return replace(
            self,
            state="free",
            since=now,
            pinned_owner=None,
            mac=None,
            node=None,
            container_id=None,
            attachment_id=None,
        )

    def quarantined(self, now: datetime) -> "Allocation":
        """The row once a conflict was seen: nobody gets it, its pinned owner waits for an operator. Without
        one, its MAC is free for whoever had it.
        """
        mac = self.mac if self.pinned_owner is not None else None
        return replace(
            self, state="quarantined", since=now, mac=mac, node=None, container_id=None, attachment_id=None
        )


def next_number(previous: int, epoch: int) -> int:
    """The number after `previous`: its high part is at least the database's epoch, so it never goes back.

    A restored backup raises the epoch; numbers given out after the backup was made stay below new ones.
    """
    return max(previous + 1, first_number(epoch))


def first_number(epoch: int) -> int:
    """The least number of an epoch."""
    return (epoch << _EPOCH_BITS) + 1


def following(address: IPAddress, last: IPAddress) -> IPAddress | None:
    """The address after `address`, or None when `address` is `last`."""
    return None if address == last else address + 1


def derived_mac(address: IPAddress, attempt: int = 0) -> str:
    """The MAC that belongs to `address`, so that peers' neighbour caches stay true when it moves.

    `0a:58` and the four bytes of an IPv4 address. IPv6, and IPv4 after a collision: `0e:58` and a 32-bit
    hash, where `attempt` names the next. Both are unicast and locally administered (IEEE 802c).
    """
    if isinstance(address, IPv4Address) and attempt == 0:
        return "0a:58" + _hex(address.packed)
    digest = hashlib.sha256(address.packed + attempt.to_bytes(4, "big")).digest()
    return "0e:58" + _hex(digest[:4])


def is_derived(mac: str) -> bool:
    """Whether `mac` is of the kind that `derived_mac` gives out: nobody may choose such a one."""
    return mac.startswith(("0a:58:", "0e:58:"))


def _hex(tail: bytes) -> str:
    return "".join(f":{byte:02x}" for byte in tail)
