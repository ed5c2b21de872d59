"""The pick of a free address: the longest free past its cooldown, else a never-used, else a cooling one."""

from dataclasses import dataclass
from datetime import datetime

from allocator.model import Allocation, Network, Pool, Range
from allocator.store import allocations, pools
from allocator.work import Work
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress

_HOLDERS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Pick:
    """A free address: an existing row, or one that a range's cursor points to."""

    address: IPAddress
    row: Allocation | None
    part: Range

    def as_row(self, network_id: int, now: datetime) -> Allocation:
        """The allocation that this becomes, before anybody is attached to it."""
        if self.row is not None:
            return self.row
        return Allocation(
            id=0,
            range_id=self.part.id or 0,
            pool_id=self.part.pool_id,
            network_id=network_id,
            address=self.address,
            state="free",
            since=now,
            owner=None,
            pinned_owner=None,
            ifname=None,
            mac=None,
            node=None,
            container_id=None,
            attachment_id=None,
        )


def pick(work: Work, network: Network, pool: Pool, family: int) -> Pick:
    """A free address of `pool`. Costs the same in a /29 and in a /8. Raises `exhausted`.

    Cooldown keeps an address unused for a while, so that peers and conntrack forget its last owner. In a
    pool restricted to its owners it is only a preference: they share what they have.
    """
    cooled = allocations.cooled_down(work.now, pool.cooldown_s)
    row = allocations.longest_free(work.connection, pool.id, family, cooled)
    if row is not None:
        return _of_row(row)
    fresh = allocations.never_used(work.connection, pool.id, family)
    if fresh is not None:
        part, address = fresh
        return Pick(address=address, row=None, part=part)
    if pool.is_restricted:
        row = allocations.longest_free(work.connection, pool.id, family, None)
        if row is not None:
            return _of_row(row)
    raise _exhausted(work, network, pool, family)


def _of_row(row: Allocation) -> Pick:
    part = Range(
        pool_id=row.pool_id, first=row.address, last=row.address, cursor=None, used=0, id=row.range_id
    )
    return Pick(address=row.address, row=row, part=part)


def _exhausted(work: Work, network: Network, pool: Pool, family: int) -> ServiceError:
    parts = [part for part in pools.ranges(work.connection, pool.id) if part.family == family]
    if not parts:
        return ServiceError(
            Code.EXHAUSTED,
            f"pool {pool.name} of network {network.name} has no IPv{family} range, and a pod on this network "
            f"gets an address of each of IPv{' and IPv'.join(map(str, network.families))}. Name a pool that "
            "has ranges of each",
            pool=pool.name,
            used=0,
            total=0,
            holders=[],
        )
    total, used = sum(part.size for part in parts), sum(part.used for part in parts)
    held = allocations.some_held(work.connection, pool.id, family, _HOLDERS_SHOWN)
    shown = [
        {"address": str(row.address), "owner": row.owner, "state": row.state, "node": row.node}
        for row in held
    ]
    cooling = total - used
    wait = f", {cooling} cooling down for up to {pool.cooldown_s} s" if cooling else ""
    return ServiceError(
        Code.EXHAUSTED,
        f"pool {pool.name} of network {network.name} has no free IPv{family} address: {used} of {total} used"
        f"{wait}. Release addresses that nobody needs (`moorage address list {network.name} --pool "
        f"{pool.name}`) or give the owner a larger pool",
        retryable=cooling > 0,
        pool=pool.name,
        used=used,
        total=total,
        holders=shown,
    )
