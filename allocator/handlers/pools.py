"""`pool.create`."""

from allocator import policy
from allocator.handlers.administrative import earlier, succeeded
from allocator.model import Allocation, Network, Pool
from allocator.store import pools, requests
from allocator.views import pool_view
from allocator.work import Work
from broker.outcome import Delivery, Outcome, Reply
from schemas.errors import Code, ServiceError
from schemas.pool import DEFAULT_POOL, PoolCreate, PoolView

_HOLDERS_SHOWN = 20


def create(request: PoolCreate, delivery: Delivery, work: Work) -> Outcome:
    """Carve the ranges out of the default pool. The same definition again is a success."""
    network = work.network(request.network)
    known = earlier(request, delivery, work)
    if known is not None:
        return known
    if network.state != "active":
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"network {network.name} is {network.state}; make its pools once it is active",
            network=network.name,
            state=network.state,
        )
    existing = next((pool for pool in network.pools if pool.name == request.pool), None)
    view = _carve(request, delivery, work, network) if existing is None else _same(request, work, existing)
    requests.add(work.connection, network.id, request, work.now, answer=succeeded(view))
    return Reply(view)


def _same(request: PoolCreate, work: Work, existing: Pool) -> PoolView:
    if existing.is_default:
        raise ServiceError(
            Code.POOL_EXISTS,
            f"every network has a pool {DEFAULT_POOL}, of all that no other pool has; take another name",
            pool=DEFAULT_POOL,
        )
    parts = pools.ranges(work.connection, existing.id)
    same = (
        existing.policy == request.policy
        and existing.owners == request.owners
        and existing.cooldown_s == request.cooldown_s
        and policy.merged(part.span() for part in parts) == policy.merged(request.ranges)
    )
    if not same:
        raise ServiceError(
            Code.POOL_EXISTS,
            f"pool {request.pool} of network {request.network} exists with another definition; see "
            f"`moorage pool list {request.network}`, and take another name or ask for the same definition",
            pool=request.pool,
        )
    return pool_view(request.network, existing, parts)


def _carve(request: PoolCreate, delivery: Delivery, work: Work, network: Network) -> PoolView:
    default = next(pool for pool in network.pools if pool.is_default)
    before = pools.ranges(work.connection, default.id)
    policy.carve(before, request.ranges, default.id)  # refuses before anything is written
    _check_unheld(request, work, network)
    pool_id = pools.add(
        work.connection, network.id, request.pool, request.policy, request.owners, request.cooldown_s
    )
    after = policy.carve(before, request.ranges, pool_id)
    pools.save_split(work.connection, network.id, before, after)
    details = {"definition": request.definition.model_dump(mode="json")}
    work.record(network.id, "pool.created", delivery.user_id, pool=request.pool, details=details)
    made = next(pool for pool in work.reload(network.name).pools if pool.id == pool_id)
    return pool_view(network.name, made, pools.ranges(work.connection, pool_id))


def _check_unheld(request: PoolCreate, work: Work, network: Network) -> None:
    held: list[Allocation] = []
    for span in request.ranges:
        held += pools.holders(work.connection, network.id, span, _HOLDERS_SHOWN - len(held))
        if len(held) >= _HOLDERS_SHOWN:
            break
    if not held:
        return
    told = ", ".join(f"{row.address} ({row.owner}, {row.state})" for row in held)
    raise ServiceError(
        Code.RANGE_IN_USE,
        f"addresses of these ranges are held: {told}. Choose other ranges, or release the holders first",
        holders=[
            {"address": str(row.address), "owner": row.owner, "state": row.state, "node": row.node}
            for row in held
        ],
    )
