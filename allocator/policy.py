"""What the allocator decides: which pool, which addresses to keep, how ranges are carved. Pure, no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from allocator.model import Allocation, Network, Pool, Range, following
from schemas.address import AddressAllocate
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.network import Subnet
from schemas.owners import specificity
from schemas.pool import AddressRange


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known before an allocate is decided."""

    attached: tuple[Allocation, ...]
    """Rows that carry the request's attachment_id, in any network."""
    pinned: tuple[Allocation, ...]
    """Rows pinned to the request's owner and ifname in the request's network."""
    released: bool
    """Whether the attachment_id was released before."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """The attachment has its addresses already: give the same answer."""

    rows: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Attach:
    """Attach the rows to `keep`, pick one free address of `pool` for each of `families`."""

    pool: Pool
    keep: tuple[Allocation, ...]
    families: tuple[int, ...]
    replaces: tuple[UUID, ...]


def decide_allocate(request: AddressAllocate, network: Network, facts: Facts) -> Repeat | Attach:
    """What an allocate comes to. Raises ServiceError for every "no"; nothing has been written then."""
    if facts.attached:
        return _repeat(request, network, facts.attached)
    if facts.released:
        raise ServiceError(
            Code.ATTACHMENT_RELEASED,
            f"attachment {request.attachment_id} was released before this request arrived; it is dropped. "
            "Attach again under a new attachment_id",
        )
    if network.state != "active":
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"network {network.name} is {network.state}; try again when `moorage network show "
            f"{network.name}` says active",
            network=network.name,
            state=network.state,
        )
    _check_owner(request.owner, network.definition.owners, f"network {network.name}")
    if facts.pinned:
        return _return_pinned(request, network, facts.pinned)
    pool = choose_pool(network.pools, request.owner, request.pool)
    return Attach(pool=pool, keep=(), families=network.families, replaces=())


def _repeat(request: AddressAllocate, network: Network, rows: tuple[Allocation, ...]) -> Repeat:
    for row in rows:
        same = (
            row.network_id == network.id
            and row.owner == request.owner
            and row.node == request.node
            and row.container_id == request.container_id
            and row.ifname == request.ifname
        )
        if not same:
            raise ServiceError(
                Code.ATTACHMENT_CONFLICT,
                f"attachment {request.attachment_id} already belongs to {row.owner} {row.ifname} on "
                f"{row.node}; every attachment needs an id of its own",
                owner=row.owner,
                node=row.node,
            )
    return Repeat(rows)


def _return_pinned(request: AddressAllocate, network: Network, rows: tuple[Allocation, ...]) -> Attach:
    """The owner comes back to the addresses pinned to it, or takes them over from its old sandbox here."""
    pool = network.pool(rows[0].pool_id)
    if request.pool is not None and request.pool != pool.name:
        raise ServiceError(
            Code.OWNER_PINNED,
            f"{request.owner} {request.ifname} is pinned to {_names(rows)} in pool {pool.name} and cannot "
            f"get an address of pool {request.pool} as well; name pool {pool.name} or none",
            pool=pool.name,
            addresses=[str(row.address) for row in rows],
        )
    _check_owner(request.owner, pool.owners, f"pool {pool.name} of network {network.name}")
    replaces = []
    for row in rows:
        if row.state != "attached":
            continue
        if row.node != request.node:
            raise _elsewhere(request, row)
        if row.attachment_id is not None and row.attachment_id not in replaces:
            replaces.append(row.attachment_id)
    missing = tuple(family for family in network.families if family not in {row.family for row in rows})
    return Attach(pool=pool, keep=rows, families=missing, replaces=tuple(replaces))


def _elsewhere(request: AddressAllocate, row: Allocation) -> ServiceError:
    return ServiceError(
        Code.OWNER_ATTACHED_ELSEWHERE,
        f"{request.owner} still holds {row.address} on node {row.node} (container {row.container_id}, since "
        f"{row.since:%Y-%m-%d %H:%M:%S} UTC). It moves here as soon as {row.node} releases it: delete the "
        f"old pod there, or start the node worker of {row.node} if it is down",
        address=str(row.address),
        node=row.node,
        container_id=row.container_id,
    )


def choose_pool(pools: Sequence[Pool], owner: str, wanted: str | None) -> Pool:
    """The pool an owner gets new addresses from.

    The one it names, if that allows it; else the restricted pool whose patterns describe it most closely
    (the longer literal text; then by name); else `default`.
    """
    if wanted is not None:
        pool = next((pool for pool in pools if pool.name == wanted), None)
        if pool is None:
            raise ServiceError(
                Code.POOL_UNKNOWN,
                f"there is no pool {wanted}; there are: {', '.join(sorted(p.name for p in pools))}",
                pool=wanted,
            )
        _check_owner(owner, pool.owners, f"pool {wanted}")
    else:
        pool = _closest(pools, owner)
    if pool.policy == "reserved":
        raise ServiceError(
            Code.OWNER_FORBIDDEN,
            f"pool {pool.name} is reserved: its addresses are never handed out. Name another pool",
            pool=pool.name,
        )
    return pool


def _closest(pools: Sequence[Pool], owner: str) -> Pool:
    hits = []
    for pool in pools:
        literal = specificity(pool.owners, owner)
        if literal is not None and pool.policy != "reserved":
            hits.append((-literal, pool.name, pool))
    return min(hits)[2] if hits else next(pool for pool in pools if pool.is_default)


def _check_owner(owner: str, patterns: tuple[str, ...], where: str) -> None:
    if patterns and specificity(patterns, owner) is None:
        raise ServiceError(
            Code.OWNER_FORBIDDEN,
            f"{where} does not allow {owner}; it allows {', '.join(patterns)}. Use another pool, or have "
            "its owners changed",
            owner=owner,
            allowed=list(patterns),
        )


def initial_ranges(subnet: Subnet, pool_id: int) -> list[Range]:
    """All of a subnet that can be handed out: less network, broadcast and gateway addresses.

    IPv4 network and broadcast: RFC 1122 section 3.2.1.3; IPv6 subnet-router anycast: RFC 4291 section 2.6.1.
    """
    first = subnet.cidr.network_address + 1
    last = subnet.cidr.broadcast_address - (1 if subnet.cidr.version == 4 else 0)
    spans = [(first, last)]
    if subnet.gateway is not None:
        spans = [(first, subnet.gateway - 1)]
        if subnet.gateway != last:  # there may be no address after it at all
            spans.append((subnet.gateway + 1, last))
    return [Range(pool_id, a, b, cursor=a) for a, b in spans if int(a) <= int(b)]


def carve(existing: Sequence[Range], wanted: Iterable[AddressRange], pool_id: int) -> list[Range]:
    """The ranges of `existing`, split so that every address of `wanted` belongs to `pool_id`.

    A split part keeps the id of the range whose first address it keeps; the others have no id yet. A cursor
    stays with the part it points into; parts below it are used up (None), parts above start at their first.
    Raises `range_invalid` when part of `wanted` is in none of `existing`.
    """
    parts = sorted(existing, key=lambda r: (r.family, int(r.first)))
    for span in wanted:
        covered = 0
        split: list[Range] = []
        for part in parts:
            pieces = _split(part, span, pool_id)
            split.extend(pieces)
            covered += sum(piece.size for piece in pieces if _inside(piece, span))
        size = int(span.last) - int(span.first) + 1
        if covered != size:
            raise ServiceError(
                Code.RANGE_INVALID,
                f"{span} is not wholly free to carve: {size - covered} of its {size} addresses lie outside "
                "the subnets, in another pool, or are a network, broadcast or gateway address. "
                "See `moorage pool list`",
                range=str(span),
            )
        parts = split
    return parts


def _inside(part: Range, span: AddressRange) -> bool:
    return (
        part.family == span.first.version
        and int(span.first) <= int(part.first)
        and int(part.last) <= int(span.last)
    )


def _split(part: Range, span: AddressRange, pool_id: int) -> list[Range]:
    low, high = max(int(part.first), int(span.first)), min(int(part.last), int(span.last))
    if part.family != span.first.version or low > high:
        return [part]
    start, end = type(part.first)(low), type(part.first)(high)
    pieces = []
    if part.first != start:
        pieces.append(_piece(part, part.first, start - 1))
    pieces.append(replace(_piece(part, start, end), pool_id=pool_id))
    if part.last != end:
        pieces.append(_piece(part, end + 1, part.last))
    return pieces


def _piece(part: Range, first: IPAddress, last: IPAddress) -> Range:
    cursor: IPAddress | None = None
    if part.cursor is not None and int(part.cursor) <= int(last):
        cursor = max(part.cursor, first, key=int)
    keeps_id = first == part.first
    return replace(part, first=first, last=last, cursor=cursor, id=part.id if keeps_id else None, used=0)


def gap_after(cursor: IPAddress, last: IPAddress, taken: Sequence[IPAddress]) -> IPAddress | None:
    """The first address from `cursor` to `last` that is not in `taken` (ascending); None if there is none."""
    free: IPAddress | None = cursor
    for address in taken:
        if free is None or address != free:
            break
        free = following(free, last)
    return free


def _names(rows: Sequence[Allocation]) -> str:
    return ", ".join(str(row.address) for row in rows)


def merged(spans: Iterable[AddressRange]) -> list[AddressRange]:
    """The same addresses in as few ranges as can be, in order: how two pools are compared and shown."""
    result: list[AddressRange] = []
    for span in sorted(spans, key=lambda s: (s.first.version, int(s.first))):
        last = result[-1] if result else None
        if (
            last is not None
            and last.first.version == span.first.version
            and int(last.last) + 1 >= int(span.first)
        ):
            result[-1] = AddressRange(first=last.first, last=max(last.last, span.last, key=int))
        else:
            result.append(span)
    return result
