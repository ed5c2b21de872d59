"""How the addresses of a network are cut into ranges and move between pools. Pure, no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from allocator.model import Range
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress, IPNetwork
from schemas.network import Subnet
from schemas.pool import AddressRange


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
        size = size_of(span)
        if covered != size:
            raise ServiceError(
                Code.RANGE_INVALID,
                f"{size - covered} of the {size} addresses of {span} are not there to take: they lie outside "
                "the subnets, in another pool, or are a network, broadcast or gateway address. "
                "See `moorage pool list`",
                range=str(span),
            )
        parts = split
    return parts


def is_inside(one: IPNetwork, other: IPNetwork) -> bool:
    """Whether `one` is `other` or a part of it."""
    return one.version == other.version and one.prefixlen >= other.prefixlen and one.network_address in other


def within_subnets(subnets: Iterable[IPNetwork], within: IPNetwork) -> list[AddressRange]:
    """What `within` and the subnets have in common."""
    found = [within if is_inside(within, subnet) else subnet for subnet in subnets if _touch(subnet, within)]
    return [AddressRange(first=part.network_address, last=part.broadcast_address) for part in found]


def _touch(one: IPNetwork, other: IPNetwork) -> bool:
    return is_inside(one, other) or is_inside(other, one)


def overlap(some: Iterable[AddressRange], others: Sequence[AddressRange]) -> list[AddressRange]:
    """What each of `some` has in common with each of `others`."""
    found: list[AddressRange] = []
    for one in some:
        for other in others:
            low, high = max(int(one.first), int(other.first)), min(int(one.last), int(other.last))
            if one.first.version == other.first.version and low <= high:
                first = one.first + (low - int(one.first))
                found.append(AddressRange(first=first, last=first + (high - low)))
    return found


def size_of(span: AddressRange) -> int:
    """How many addresses it has."""
    return int(span.last) - int(span.first) + 1


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


def lowest(spans: Iterable[AddressRange], size: int) -> list[AddressRange]:
    """The first `size` addresses of `spans`, as far as there are so many, in the order given."""
    taken: list[AddressRange] = []
    for span in spans:
        if size <= 0:
            break
        part = min(size, size_of(span))
        taken.append(AddressRange(first=span.first, last=span.first + (part - 1)))
        size -= part
    return taken


def highest(spans: Sequence[AddressRange], size: int) -> list[AddressRange]:
    """The last `size` addresses of `spans`, the highest first."""
    taken: list[AddressRange] = []
    for span in sorted(spans, key=lambda s: int(s.first), reverse=True):
        if size <= 0:
            break
        part = min(size, size_of(span))
        taken.append(AddressRange(first=span.last - (part - 1), last=span.last))
        size -= part
    return taken


def without(span: AddressRange, held: Iterable[IPAddress]) -> list[AddressRange]:
    """What of `span` lies between the addresses of `held` (ascending)."""
    left: list[AddressRange] = []
    start: IPAddress | None = span.first
    for address in held:
        if start is None:
            break
        if int(start) < int(address):
            left.append(AddressRange(first=start, last=address - 1))
        start = address + 1 if address != span.last else None
    if start is not None:
        left.append(AddressRange(first=start, last=span.last))
    return left
