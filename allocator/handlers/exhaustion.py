"""What is said of a pool that has no free address: its name, its figures, and who holds it."""

from allocator.model import Allocation, Network, Pool
from allocator.store import allocations, pools
from allocator.work import Work
from schemas.errors import Code, ServiceError

_HOLDERS_SHOWN = 5


def holder(row: Allocation) -> dict[str, str | None]:
    """Who holds an address, as errors tell it."""
    return {"address": str(row.address), "owner": row.owner, "state": row.state, "node": row.node}


def told(rows: list[Allocation]) -> str:
    """The same in words."""
    return ", ".join(f"{row.address} ({row.owner}, {row.state})" for row in rows)


def explain_exhaustion(work: Work, network: Network, pool: Pool, family: int) -> ServiceError:
    """The error of a pool without a free address. Counts what the batch changed so far."""
    parts = [part for part in pools.ranges(work.connection, pool.id) if part.family == family]
    if not parts:
        return ServiceError(
            Code.EXHAUSTED,
            f"pool {pool.name} of network {network.name} has no IPv{family} range, and a pod on this network "
            f"gets an address of each of IPv{' and IPv'.join(map(str, network.families))}. Give it some "
            f"(`moorage pool resize {network.name} {pool.name} --add RANGE`), or name a pool that has both",
            pool=pool.name,
            used=0,
            total=0,
            holders=[],
        )
    changes = {change.range_id: change.used for change in work.ledger.ranges()}
    total = sum(part.size for part in parts)
    used = sum(part.used + changes.get(part.id or 0, 0) for part in parts)
    cooling = total - used
    more = f"add a subnet (`moorage network update {network.name} --add-subnet CIDR`)"
    if not pool.is_default:
        more = f"give the pool more (`moorage pool resize {network.name} {pool.name} --size N`)"
    wait = f", {cooling} cooling down for up to {pool.cooldown_s} s" if cooling else ""
    return ServiceError(
        Code.EXHAUSTED,
        f"pool {pool.name} of network {network.name} has no free IPv{family} address: {used} of {total} used"
        f"{wait}. Release addresses that nobody needs (`moorage address list {network.name} --pool "
        f"{pool.name}`) or {more}",
        retryable=cooling > 0,
        pool=pool.name,
        used=used,
        total=total,
        holders=[holder(row) for row in _holders(work, pool, family)],
    )


def _holders(work: Work, pool: Pool, family: int) -> list[Allocation]:
    """Some of those who hold addresses: as the database has them, corrected by what the batch changed."""
    found = allocations.some_held(work.connection, pool.id, family, _HOLDERS_SHOWN)
    rows = {row.address: row for row in found}
    rows |= {
        row.address: row for row in work.ledger.rows() if row.pool_id == pool.id and row.family == family
    }
    return [row for row in rows.values() if row.state != "free"][:_HOLDERS_SHOWN]
