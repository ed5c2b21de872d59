"""`pool.create`, `.resize`, `.update` and `.delete`: addresses move between a pool and `default`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from allocator import ranges
from allocator.handlers.administrative import check_version
from allocator.handlers.exhaustion import holder, told
from allocator.model import Allocation, Network, Pool, Range
from allocator.store import allocations, pools
from allocator.views import pool_view
from allocator.work import Work
from broker.outcome import Delivery
from schemas.errors import Code, ServiceError
from schemas.message import Done
from schemas.pool import (
    DEFAULT_POOL,
    AddressRange,
    PoolChange,
    PoolCreate,
    PoolDelete,
    PoolResize,
    PoolSettings,
    PoolUpdate,
    PoolView,
)

_HOLDERS_SHOWN = 20
_HELD_AT_ONCE = 1000


def create(request: PoolCreate, delivery: Delivery, work: Work, network: Network) -> PoolView:
    """Carve the pool out of the default pool. The same definition again is a success."""
    if network.state != "active":
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"network {network.name} is {network.state}; make its pools once it is active",
            network=network.name,
            state=network.state,
        )
    existing = network.named(request.pool)
    if existing is not None:
        return _same(request, work, existing)
    spans = list(request.ranges) or _spans_of_size(work, network, request.size or 0)
    default = _default(network)
    before = pools.ranges(work.connection, default.id)
    ranges.carve(before, spans, default.id)  # refuses before anything is written
    _check_unheld(work, network, spans)
    settings = PoolSettings.model_validate(request.model_dump(include=set(PoolSettings.model_fields)))
    version = work.next_version(0)
    pool_id = pools.add(work.connection, network.id, request.pool, request.policy, settings, version)
    pools.save_split(work.connection, network.id, before, ranges.carve(before, spans, pool_id))
    made = request.definition.model_copy(update={"ranges": tuple(spans)})
    details = {"definition": made.model_dump(mode="json")}
    work.record(network.id, "pool.created", delivery.user_id, pool=request.pool, details=details)
    return _view(work, network, request.pool)


def _same(request: PoolCreate, work: Work, existing: Pool) -> PoolView:
    if existing.is_default:
        raise ServiceError(
            Code.POOL_EXISTS,
            f"every network has a pool {DEFAULT_POOL}, of all that no other pool has; take another name",
            pool=DEFAULT_POOL,
        )
    parts = pools.ranges(work.connection, existing.id)
    if not _is_same(request, existing, parts):
        raise ServiceError(
            Code.POOL_EXISTS,
            f"pool {request.pool} of network {request.network} exists with another definition; see "
            f"`moorage pool list {request.network}`, and take another name or ask for the same definition",
            pool=request.pool,
        )
    return pool_view(request.network, existing, parts)


def _is_same(request: PoolCreate, existing: Pool, parts: Sequence[Range]) -> bool:
    asked = (request.policy, request.owners, request.cooldown_s, request.retain_s, request.allow_mac)
    has = (existing.policy, existing.owners, existing.cooldown_s, existing.retain_s, existing.allow_mac)
    if asked != has:
        return False
    if request.size is None:
        return ranges.merged(part.span() for part in parts) == ranges.merged(request.ranges)
    families = {part.family for part in parts}
    return all(_total(parts, family) == request.size for family in families)


def resize(request: PoolResize, delivery: Delivery, work: Work, network: Network) -> PoolView:
    """Move ranges from the default pool into this one, or back."""
    pool = _changeable(request, network)
    own = pools.ranges(work.connection, pool.id)
    add, remove = list(request.add), list(request.remove)
    if request.size is not None:
        add, remove = _towards(work, network, own, request.size)
    spare = pools.ranges(work.connection, _default(network).id)
    ranges.carve(spare, add, pool.id)
    ranges.carve(own, remove, pool.id)
    _check_unheld(work, network, [*add, *remove])
    pools.save_split(work.connection, network.id, spare, ranges.carve(spare, add, pool.id))
    pools.save_split(work.connection, network.id, own, ranges.carve(own, remove, _default(network).id))
    details = {"added": [str(span) for span in add], "removed": [str(span) for span in remove]}
    return _changed(request, delivery, work, network, pool, {}, event="pool.resized", details=details)


def _towards(
    work: Work, network: Network, own: Sequence[Range], size: int
) -> tuple[list[AddressRange], list[AddressRange]]:
    """What to add and to remove for `size` addresses of each family of the network."""
    add: list[AddressRange] = []
    remove: list[AddressRange] = []
    for family in network.families:
        missing = size - _total(own, family)
        if missing > 0:
            add += _free_spans(work, network, family, missing)
        elif missing < 0:
            remove += ranges.highest([part.span() for part in own if part.family == family], -missing)
    return add, remove


def _total(parts: Iterable[Range], family: int) -> int:
    return sum(part.size for part in parts if part.family == family)


def update(request: PoolUpdate, delivery: Delivery, work: Work, network: Network) -> PoolView:
    """Change owners and times. Addresses that owners hold stay theirs."""
    pool = _changeable(request, network, default_too=True)
    if pool.is_default and (request.owners or request.retain_s):
        raise ServiceError(
            Code.POOL_UNSUITABLE,
            f"pool {DEFAULT_POOL} is for all owners of its network and keeps no address for one: only its "
            "cooldown and its MACs can be set. Make a pool for these owners (`moorage pool create`)",
            pool=pool.name,
        )
    if request.retain_s and pool.policy != "pinned":
        raise ServiceError(
            Code.POOL_UNSUITABLE, f"pool {pool.name} is {pool.policy}: no address waits there", pool=pool.name
        )
    settings = PoolSettings(
        owners=pool.owners if request.owners is None else request.owners,
        cooldown_s=pool.cooldown_s if request.cooldown_s is None else request.cooldown_s,
        retain_s=pool.retain_s if request.retain_s is None else request.retain_s or None,
        allow_mac=pool.allow_mac if request.allow_mac is None else request.allow_mac,
    )
    details = {"settings": settings.model_dump(mode="json")}
    values = pools.settings_values(settings)
    return _changed(request, delivery, work, network, pool, values, event="pool.updated", details=details)


def _changed(
    request: PoolChange,
    delivery: Delivery,
    work: Work,
    network: Network,
    pool: Pool,
    values: dict[str, Any],
    *,
    event: Any,
    details: dict[str, Any],
) -> PoolView:
    pools.change(work.connection, pool.id, {**values, "version": work.next_version(pool.version)})
    work.record(network.id, event, delivery.user_id, pool=request.pool, details=details)
    return _view(work, network, request.pool)


def delete(request: PoolDelete, delivery: Delivery, work: Work, network: Network) -> Done:
    """Give all ranges back to the default pool. Refused while anybody holds an address."""
    pool = _changeable(request, network)
    held = [
        row
        for family in network.families
        for row in allocations.some_held(work.connection, pool.id, family, _HOLDERS_SHOWN)
    ]
    if held:
        raise ServiceError(
            Code.POOL_IN_USE,
            f"addresses of pool {pool.name} are held: {told(held)}. Release the holders first (delete their "
            f"pods; `moorage address release {network.name} ADDRESS --reason TEXT` for those that wait)",
            holders=[holder(row) for row in held],
        )
    pools.give_back(work.connection, pool.id, _default(network).id)
    work.record(network.id, "pool.deleted", delivery.user_id, pool=pool.name)
    work.forget(network.name)
    return Done()


def _changeable(request: PoolChange, network: Network, *, default_too: bool = False) -> Pool:
    pool = network.named(request.pool)
    if pool is None:
        raise ServiceError(
            Code.POOL_UNKNOWN,
            f"network {network.name} has no pool {request.pool}; `moorage pool list {network.name}` shows "
            "those it has",
            pool=request.pool,
        )
    if pool.is_default and not default_too:
        raise ServiceError(
            Code.POOL_UNSUITABLE,
            f"pool {DEFAULT_POOL} is what no other pool has: it cannot be resized or deleted. Resize the "
            "others, or add a subnet (`moorage network update`)",
            pool=pool.name,
        )
    check_version(f"pool {pool.name} of network {network.name}", pool.version, request.expected_version)
    return pool


def _default(network: Network) -> Pool:
    return next(pool for pool in network.pools if pool.is_default)


def _view(work: Work, network: Network, name: str) -> PoolView:
    made = work.reload(network.name).named(name)
    assert made is not None  # noqa: S101  it was written a moment ago
    return pool_view(network.name, made, pools.ranges(work.connection, made.id))


def _spans_of_size(work: Work, network: Network, size: int) -> list[AddressRange]:
    return [span for family in network.families for span in _free_spans(work, network, family, size)]


def _free_spans(work: Work, network: Network, family: int, size: int) -> list[AddressRange]:
    """`size` addresses of the default pool that nobody holds, never-used ones first. Raises `exhausted`."""
    parts = [p for p in pools.ranges(work.connection, _default(network).id) if p.family == family]
    spans = ranges.lowest(_unheld(work, network, parts), size)
    found = sum(ranges.size_of(span) for span in spans)
    if found < size:
        raise ServiceError(
            Code.EXHAUSTED,
            f"pool {DEFAULT_POOL} of network {network.name} has only {found} free IPv{family} addresses to "
            f"give, not {size}. Ask for fewer, or add a subnet (`moorage network update {network.name} "
            "--add-subnet CIDR`)",
            pool=DEFAULT_POOL,
            free=found,
        )
    return ranges.merged(spans)


def _unheld(work: Work, network: Network, parts: Sequence[Range]) -> Iterator[AddressRange]:
    """What nobody holds: first what lies above the cursors, then what lies below."""
    for part in parts:
        if part.cursor is not None:
            yield from _gaps(work, network, AddressRange(first=part.cursor, last=part.last))
    for part in parts:
        if part.cursor != part.first:
            last = part.last if part.cursor is None else part.cursor - 1
            yield from _gaps(work, network, AddressRange(first=part.first, last=last))


def _gaps(work: Work, network: Network, span: AddressRange) -> Iterator[AddressRange]:
    """What of `span` nobody holds, in order, read page by page."""
    while True:
        held = allocations.held_within(work.connection, network.id, span, _HELD_AT_ONCE)
        if len(held) < _HELD_AT_ONCE:
            yield from ranges.without(span, [row.address for row in held])
            return
        known = AddressRange(first=span.first, last=held[-1].address)
        yield from ranges.without(known, [row.address for row in held])
        if known.last == span.last:
            return
        span = AddressRange(first=known.last + 1, last=span.last)


def _check_unheld(work: Work, network: Network, spans: Iterable[AddressRange]) -> None:
    held: list[Allocation] = []
    for span in spans:
        held += allocations.held_within(work.connection, network.id, span, _HOLDERS_SHOWN - len(held))
        if len(held) >= _HOLDERS_SHOWN:
            break
    if held:
        raise ServiceError(
            Code.RANGE_IN_USE,
            f"addresses of these ranges are held: {told(held)}. Choose other ranges, or release the holders "
            "first",
            holders=[holder(row) for row in held],
        )
