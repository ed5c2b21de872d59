"""What must be known of networks, pools and addresses to say which answers of the allocator are right.

Written from DESIGN section 6 and the docstrings in schemas/. It knows no ranges, cursors, ledgers or SQL: a
network is a dict of its addresses. It does not say which address is picked, only which may be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from uuid import UUID

from schemas.address import AddressView
from schemas.fields import IPAddress
from schemas.network import Subnet

Pins = dict[int, "Row"]
"""What one interface of an owner is pinned to, by family."""


def covers(pattern: str, owner: str) -> bool:
    ours, theirs = pattern.split("/"), owner.split("/")
    return len(ours) == len(theirs) and all(map(fnmatchcase, theirs, ours))


def closeness(patterns: Iterable[str], owner: str) -> int:
    """How many literal characters the best pattern has; -1 where none covers the owner."""
    return max((len(p.replace("*", "")) for p in patterns if covers(p, owner)), default=-1)


def allows(patterns: tuple[str, ...], owner: str) -> bool:
    return not patterns or closeness(patterns, owner) >= 0


def plain_mac(address: IPAddress) -> str:
    """What follows from an IPv4 address."""
    return "0a:58:" + ":".join(f"{byte:02x}" for byte in address.packed)


@dataclass
class Row:
    """An address that was ever used."""

    address: IPAddress
    state: str
    since: datetime
    owner: str | None = None
    ifname: str | None = None
    pinned: bool = False
    mac: str | None = None
    node: str | None = None
    container: str | None = None
    attachment: UUID | None = None

    @property
    def held(self) -> bool:
        return self.state != "free"

    def become(self, state: str, now: datetime) -> None:
        """Nobody is attached any more. A free one keeps nothing but whose it was; no MAC outlasts a pin."""
        self.state, self.since = state, now
        self.node = self.container = self.attachment = None
        self.pinned = self.pinned and state != "free"
        self.mac = self.mac if self.pinned else None


@dataclass
class Pool:
    name: str
    policy: str = "shared"
    owners: tuple[str, ...] = ()
    cooldown_s: int = 120
    retain_s: int | None = None
    allow_mac: bool = False
    version: int = 0

    def cooled(self, row: Row, now: datetime) -> bool:
        return now - row.since >= timedelta(seconds=self.cooldown_s)

    def outlasts(self, row: Row, now: datetime) -> bool:
        """Whether the row waited longer than the pool keeps it."""
        return self.retain_s is not None and now - row.since > timedelta(seconds=self.retain_s)


@dataclass
class Net:
    """A network: `where` names the pool of each address that it can hand out."""

    name: str
    subnets: list[Subnet] = field(default_factory=list)
    owners: tuple[str, ...] = ()
    pools: dict[str, Pool] = field(default_factory=lambda: {"default": Pool("default")})
    where: dict[IPAddress, str] = field(default_factory=dict)
    rows: dict[IPAddress, Row] = field(default_factory=dict)
    picked: set[IPAddress] = field(default_factory=set)
    """What was given out as the next never-used one: no range may come to it again."""

    def add_subnet(self, subnet: Subnet) -> None:
        self.subnets.append(subnet)
        edges = {subnet.cidr.network_address, subnet.gateway}
        if subnet.cidr.version == 4:
            edges.add(subnet.cidr.broadcast_address)
        self.where |= dict.fromkeys((a for a in subnet.cidr if a not in edges), "default")

    @property
    def families(self) -> list[int]:
        return sorted({subnet.cidr.version for subnet in self.subnets})

    def subnet_of(self, address: IPAddress) -> Subnet:
        return next(s for s in self.subnets if s.cidr.version == address.version and address in s.cidr)

    def pool_at(self, address: IPAddress) -> Pool:
        return self.pools[self.where[address]]

    def of_pool(self, name: str, family: int | None = None) -> list[IPAddress]:
        return [a for a, pool in self.where.items() if pool == name and family in (None, a.version)]

    def held(self, addresses: Iterable[IPAddress]) -> list[IPAddress]:
        return [a for a in addresses if a in self.rows and self.rows[a].held]

    def pins(self, owner: str, ifname: str) -> Pins:
        rows = (row for row in self.rows.values() if row.pinned)
        return {r.address.version: r for r in rows if (r.owner, r.ifname) == (owner, ifname)}

    def attached_to(self, attachment: UUID | None) -> list[Row]:
        found = [row for row in self.rows.values() if attachment and row.attachment == attachment]
        return sorted(found, key=lambda row: row.address.version)

    def has_mac(self, mac: str, family: int) -> bool:
        return any(row.address.version == family for row in self.with_mac(mac))

    def with_mac(self, mac: str) -> list[Row]:
        return [row for row in self.rows.values() if row.mac == mac]

    def closest(self, owner: str) -> Pool:
        ranked = [
            (-closeness(pool.owners, owner), pool.name)
            for pool in self.pools.values()
            if pool.policy != "reserved" and closeness(pool.owners, owner) >= 0
        ]
        return self.pools[min(ranked)[1]] if ranked else self.pools["default"]

    def obstacle(self, address: IPAddress, pool: Pool, owner: str, now: datetime) -> str | None:
        """Why the owner cannot have this very address of this pool now."""
        if address not in self.where:
            return "address_unknown"
        if self.where[address] != pool.name:
            return "pool_unsuitable"
        row = self.rows.get(address)
        if row is None:
            return None
        if row.held:
            return "address_quarantined" if row.state == "quarantined" else "address_in_use"
        wall = not pool.owners and row.owner != owner
        return "address_cooling" if wall and not pool.cooled(row, now) else None

    def choices(self, pool: Pool, family: int, owner: str, ifname: str, now: datetime) -> set[IPAddress]:
        """What may be picked: the owner's last, else the longest free, else a new, else a cooling one."""
        addresses = self.of_pool(pool.name, family)
        free = [self.rows[a] for a in addresses if a in self.rows and not self.rows[a].held]
        own = [row for row in free if (row.owner, row.ifname) == (owner, ifname)]
        if own:
            latest = max(row.since for row in own)
            return {row.address for row in own if row.since == latest}
        cooled = [row for row in free if pool.cooled(row, now)]
        fresh = {a for a in addresses if a not in self.rows}
        if cooled or (pool.owners and free and not fresh):
            longest = min(row.since for row in cooled or free)
            return {row.address for row in free if row.since == longest}
        return fresh

    def shows(self, view: AddressView, row: Row) -> bool:
        """Whether this is how people have to see the row."""
        pool = self.pool_at(row.address)
        return (
            (view.network, view.pool, view.policy) == (self.name, pool.name, pool.policy)
            and (view.address, view.state, view.owner) == (row.address, row.state, row.owner)
            and (view.mac, view.ifname, view.node) == (row.mac, row.ifname, row.node)
            and (view.container_id, view.attachment_id) == (row.container, row.attachment)
            and view.since.replace(tzinfo=None) == row.since
        )
