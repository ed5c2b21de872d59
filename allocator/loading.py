"""What the requests of a batch may need, read in a handful of statements, whatever their number."""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from allocator.admission import choose_pool
from allocator.ledger import Ledger
from allocator.macs import candidates
from allocator.model import Allocation, Network, Pool, Range, following
from allocator.store import allocations, history, pools
from allocator.store.allocations import Sought
from allocator.store.history import Happened
from allocator.store.reads import Found, Reads
from allocator.supply import Place, Supply, fresh_places
from allocator.work import Work
from schemas.address import AddressAllocate, AddressQuarantine, AddressRelease
from schemas.errors import ServiceError
from schemas.fields import IPAddress

ENDS = frozenset({"address.waiting", "address.freed", "address.taken_over", "address.quarantined"})
"""The events after which an attachment is over."""

_RANGES_AT_ONCE = 16
_TAKEN_AT_ONCE = 256
_SUPPLY, _AHEAD = 1024, 16
"""Up to how many addresses are read ahead, and for how many such batches: the next ones go on from there."""

AddressRequest = AddressAllocate | AddressRelease | AddressQuarantine


@dataclass(slots=True)
class Wanted:
    """What one transaction is going to look at."""

    attachments: set[UUID] = field(default_factory=set)
    sought: defaultdict[int, Sought] = field(default_factory=lambda: defaultdict(Sought))


def load_requests(work: Work, requests: Sequence[AddressRequest]) -> None:
    """Lock the networks of `requests` and fill the ledger with all they may need."""
    names = sorted({request.network for request in requests})
    ids = work.expected_ids(names)
    if len(ids) < len(names):
        work.lock(names)
        load(work, _wanted(requests, _ids(work, names)))
    else:
        reads, wanted = Reads(), _wanted(requests, ids)
        locked = work.ask_lock(names, reads)
        found = _ask(wanted, reads)
        reads.send(work.connection)
        locked()
        if _ids(work, names) == ids:
            _fill(work, wanted, found)
        else:
            load(work, _wanted(requests, _ids(work, names)))
    load_supplies(work, _picks(work, requests))
    _load_macs(work, requests)


def _ids(work: Work, names: Iterable[str]) -> dict[str, int]:
    """Those of the networks that there are, as their locks tell."""
    found = {name: work.find_network(name) for name in names}
    return {name: network.id for name, network in found.items() if network is not None}


def _wanted(requests: Iterable[AddressRequest], ids: Mapping[str, int]) -> Wanted:
    """What `requests` may need, of the networks with these ids."""
    wanted = Wanted()
    for request in requests:
        network_id = ids.get(request.network)
        if network_id is None:
            continue
        if request.attachment_id is not None:
            wanted.attachments.add(request.attachment_id)
        sought = wanted.sought[network_id]
        match request:
            case AddressAllocate():
                sought.owners.add(request.owner)
                sought.addresses.update(request.addresses)
            case AddressRelease(attachment_id=None):
                sought.containers.add((request.node, request.container_id))
    return wanted


@dataclass(slots=True)
class _Asked:
    """What comes of it."""

    known: list[Found[Allocation]]
    happened: Found[Happened] | None


def load(work: Work, wanted: Wanted) -> None:
    """Rows, what history knows of attachments, and where addresses lie that were never used."""
    reads = Reads()
    found = _ask(wanted, reads)
    reads.send(work.connection)
    _fill(work, wanted, found)


def _ask(wanted: Wanted, reads: Reads) -> _Asked:
    happened = history.of_attachments(reads, wanted.attachments) if wanted.attachments else None
    return _Asked(allocations.known(reads, wanted.attachments, wanted.sought), happened)


def _fill(work: Work, wanted: Wanted, asked: _Asked) -> None:
    ledger = work.ledger
    for found in asked.known:
        ledger.load(found.rows)
    for attachment_id, event, details in asked.happened.rows if asked.happened is not None else ():
        if event in ENDS:
            ledger.ended.add(attachment_id)
        elif "replaces" in details:
            ledger.replaced[attachment_id] = tuple(UUID(replaced) for replaced in details["replaces"])
    for network_id, sought in wanted.sought.items():
        blank = {address for address in sought.addresses if ledger.at(network_id, address) is None}
        parts = pools.ranges_of(work.connection, network_id, blank)
        for address in blank:
            for part in parts:
                if part.family == address.version and int(part.first) <= int(address) <= int(part.last):
                    ledger.note_blank(Place(network_id, address, part.pool_id, part.id or 0))


def _picks(work: Work, requests: Iterable[AddressRequest]) -> Counter[tuple[int, int]]:
    """At most how many addresses of which pool are picked, by network and pool id."""
    counted: Counter[tuple[int, int]] = Counter()
    for request in requests:
        network = work.find_network(request.network)
        if not isinstance(request, AddressAllocate) or network is None or not network.pools:
            continue
        if work.ledger.of_attachment(request.attachment_id):
            continue
        counted.update((network.id, pool_id) for pool_id in _pools_of(request, network, work.ledger))
    return counted


def _pools_of(request: AddressAllocate, network: Network, ledger: Ledger) -> set[int]:
    own = ledger.of_owner(network.id, request.owner, request.ifname)
    pinned = [row for row in own if row.pinned_owner is not None]
    if len(pinned) == len(network.families):
        return set()
    if pinned:
        return {pinned[0].pool_id}
    pool_ids: set[int] = set()
    for address in request.addresses:
        place = ledger.place_at(network.id, address)
        if place is not None:
            pool_ids.add(place.pool_id)
    with suppress(ServiceError):  # the decision raises it again
        pool_ids.add(choose_pool(network.pools, request.owner, request.pool).id)
    return pool_ids


def load_supplies(work: Work, picks: Counter[tuple[int, int]]) -> None:
    """Free addresses of pools, at least so many as `picks` says, by network and pool id."""
    for (network_id, pool_id), count in picks.items():
        network = work.by_id(network_id)
        pool = network.pool(pool_id)
        offered: list[IPAddress] = []
        for family in network.families:
            offered += _load_supply(work, network_id, pool, family, count)
        if macs_may_collide(network):
            note_macs(work, network_id, {mac for address in offered for mac in candidates(address)})


def _load_supply(work: Work, network_id: int, pool: Pool, family: int, picks: int) -> list[IPAddress]:
    """See that the ledger has enough of one family of a pool; the addresses that it has new."""
    known, cooled = work.ledger.supply(pool.id, family), pool.cooled(work.now)
    if known is not None and known.suffices(picks, cooled):
        return []
    wanted = max(picks, min(picks * _AHEAD, _SUPPLY))
    free = allocations.longest_free(work.connection, pool.id, family, wanted)
    supply = Supply(deque(free), all_free=len(free) < wanted)
    if not supply.suffices(picks, cooled):
        fresh = _fresh(work, network_id, pool.id, family, wanted)
        supply.fresh, supply.all_fresh = deque(fresh), len(fresh) < wanted
    work.ledger.offer(pool.id, family, supply)
    return [row.address for row in free] + [place.address for place in supply.fresh]


def _fresh(work: Work, network_id: int, pool_id: int, family: int, count: int) -> list[Place]:
    """Up to `count` never-used addresses of a pool, fewer only if there are no more."""
    found: list[Place] = []
    after: IPAddress | None = None
    while True:
        parts = pools.fresh_ranges(work.connection, pool_id, family, _RANGES_AT_ONCE, after)
        for part in parts:
            found += _fresh_of(work, network_id, part, count - len(found))
            if len(found) >= count:
                return found
        if len(parts) < _RANGES_AT_ONCE:
            return found
        after = parts[-1].cursor


def _fresh_of(work: Work, network_id: int, part: Range, count: int) -> list[Place]:
    """Never-used addresses of one range. Rows above its cursor, given by name, are skipped page by page."""
    found: list[Place] = []
    cursor = part.cursor
    limit = max(count, _TAKEN_AT_ONCE)
    while cursor is not None and len(found) < count:
        taken = allocations.taken(work.connection, network_id, cursor, part.last, limit)
        until = part.last if len(taken) < limit else taken[-1]
        found += fresh_places(network_id, part, cursor, until, taken, count - len(found))
        cursor = following(until, part.last)
    return found


def macs_may_collide(network: Network) -> bool:
    """Whether a MAC derived from a free address may be in use: not where all have an IPv4 of their own."""
    return network.families != (4,) or any(pool.allow_mac for pool in network.pools)


def note_macs(work: Work, network_id: int, wanted: Collection[str]) -> None:
    """Let the ledger know which of these MACs are in use."""
    if wanted:
        for family, mac in allocations.macs(work.connection, network_id, wanted):
            work.ledger.note_mac(network_id, family, mac)


def _load_macs(work: Work, requests: Iterable[AddressRequest]) -> None:
    """Who has the MACs that are chosen, and those derived from addresses that are named or were had last."""
    wanted: defaultdict[int, set[str]] = defaultdict(set)
    for request in requests:
        network = work.find_network(request.network)
        if not isinstance(request, AddressAllocate) or network is None:
            continue
        if request.mac is not None:
            wanted[network.id].add(request.mac)
        if macs_may_collide(network):
            own = work.ledger.of_owner(network.id, request.owner, request.ifname)
            addresses = {*request.addresses, *(row.address for row in own if row.state == "free")}
            wanted[network.id].update(mac for address in addresses for mac in candidates(address))
    for network_id, macs in wanted.items():
        note_macs(work, network_id, macs)
