"""What the allocator decides of one allocate: repeat, attach or refuse. Pure, no I/O.

The cases stand in the order in which they are looked at. docs/addresses.md lists them as one table, which
the tests read and run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from allocator.admission import admit, check_owner, choose_pool
from allocator.ledger import Ledger
from allocator.macs import choose_mac
from allocator.model import Allocation, Attachment, Network, Pool
from allocator.supply import Place, place_of_row
from schemas.address import AddressAllocate, AddressReserve
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress


@dataclass(frozen=True, slots=True)
class Repeat:
    """The attachment has its addresses already: give the same answer."""

    rows: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Attach:
    """Give these addresses, one of each family, IPv4 first. `replaces` loses what it has of them."""

    pool: Pool
    places: tuple[Place, ...]
    mac: str
    replaces: tuple[UUID, ...]


class NoneFree(Exception):
    """A pool has no free address of a family. Whoever tells people adds who holds them."""

    def __init__(self, pool: Pool, family: int) -> None:
        super().__init__(f"pool {pool.name} has no free IPv{family} address")
        self.pool, self.family = pool, family


Wish = AddressAllocate | AddressReserve
"""What names an owner, maybe a pool and maybe addresses."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an allocate is decided: the network, what is known of its addresses, and the database's time."""

    network: Network
    ledger: Ledger
    now: datetime
    paused: bool = False


def decide_allocate(request: AddressAllocate, scene: Scene) -> Repeat | Attach:
    """What an allocate comes to. Raises `NoneFree` or ServiceError for a "no", before anything changed."""
    network, ledger = scene.network, scene.ledger
    attached = ledger.of_attachment(request.attachment_id)
    if attached and request.attachment_id not in ledger.ended:
        return _repeat(request, network, attached)
    _check_open(request, scene)
    check_owner(request.owner, network.definition.owners, f"network {network.name}")
    own = ledger.of_owner(network.id, request.owner, request.ifname)
    pinned = [row for row in own if row.pinned_owner is not None]
    kept = {row.family: place_of_row(row) for row in pinned}
    check_families(request.addresses, network)
    replaces = _taken_over(request, network, pinned)
    pool = pool_for(request, scene, pinned)
    for family in network.families:
        if family not in kept:
            kept[family] = place_for(request, scene, pool, family, own)
    places = tuple(kept[family] for family in sorted(kept))
    return Attach(pool, places, choose_mac(network, ledger, places, request.mac), replaces)


def attached_rows(
    request: AddressAllocate, attach: Attach, network: Network, now: datetime
) -> list[Allocation]:
    """The rows as they are once `attach` is carried out."""
    to = Attachment(request.attachment_id, request.owner, request.ifname, request.node, request.container_id)
    return [
        place.blank(now).attached(to, network.pool(place.pool_id), attach.mac, now) for place in attach.places
    ]


def _repeat(request: AddressAllocate, network: Network, rows: tuple[Allocation, ...]) -> Repeat:
    asked = (network.id, request.owner, request.node, request.container_id, request.ifname)
    for row in rows:
        if (row.network_id, row.owner, row.node, row.container_id, row.ifname) != asked:
            raise ServiceError(
                Code.ATTACHMENT_CONFLICT,
                f"attachment {request.attachment_id} already belongs to {row.owner} {row.ifname} on "
                f"{row.node}; every attachment needs an id of its own",
                owner=row.owner,
                node=row.node,
            )
    return Repeat(rows)


def _check_open(request: AddressAllocate, scene: Scene) -> None:
    """Whether anybody may be attached at all, under this attachment_id."""
    network = scene.network
    if request.attachment_id in scene.ledger.ended:
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
    check_running(scene)


def check_running(scene: Scene) -> None:
    """Raise `paused` where new addresses are withheld: those that pods have may not be known yet."""
    if scene.paused:
        raise ServiceError(
            Code.PAUSED,
            "the database was restored from a backup, and the nodes are telling what they have: no new "
            "address is given out until `moorage db resume`",
        )


def check_families(wished: Sequence[IPAddress], network: Network) -> None:
    """Raise `address_unknown` for a wish that could only be passed over: of a family the network lacks."""
    for address in wished:
        if address.version not in network.families:
            raise _unknown(address, network)


def _unknown(address: IPAddress, network: Network) -> ServiceError:
    return ServiceError(
        Code.ADDRESS_UNKNOWN,
        f"{address} is no address that network {network.name} hands out: it lies outside the subnets, "
        f"or is a network, broadcast or gateway address. See `moorage pool list {network.name}`",
        address=str(address),
    )


def _taken_over(request: AddressAllocate, network: Network, pinned: Sequence[Allocation]) -> tuple[UUID, ...]:
    """The older attachments, here, that lose the owner's pinned addresses. Raises if these cannot be had."""
    replaces: list[UUID] = []
    wished = {address.version for address in request.addresses}
    for row in pinned:
        pool = network.pool(row.pool_id)
        check_owner(request.owner, pool.owners, f"pool {pool.name} of network {network.name}")
        other_pool = request.pool is not None and request.pool != pool.name
        if other_pool or (row.family in wished and row.address not in request.addresses):
            raise pinned_otherwise(request.owner, request.ifname, network, pinned)
        if row.state == "quarantined":
            raise in_quarantine(network.name, row)
        if row.state == "attached" and row.attachment_id is not None:
            if row.node != request.node:
                raise _elsewhere(request, row)
            if row.attachment_id not in replaces:
                replaces.append(row.attachment_id)
    return tuple(replaces)


def pool_for(request: Wish, scene: Scene, pinned: Sequence[Allocation]) -> Pool:
    """The pool of what the owner has, or of what it wishes for; else the one chosen for it."""
    if pinned:
        return scene.network.pool(pinned[0].pool_id)
    if request.pool is None:
        for address in request.addresses:
            place = scene.ledger.place_at(scene.network.id, address)
            if place is not None:
                pool = scene.network.pool(place.pool_id)
                admit(request.owner, pool)
                return pool
    return choose_pool(scene.network.pools, request.owner, request.pool)


def place_for(request: Wish, scene: Scene, pool: Pool, family: int, own: Sequence[Allocation]) -> Place:
    """An address of one family: one that is wished for, else what the owner had last, else any."""
    wished = [address for address in request.addresses if address.version == family]
    if wished:
        return _first_usable(wished, scene, pool, request.owner)
    earlier = [row for row in own if row.state == "free" and row.family == family and row.pool_id == pool.id]
    if earlier:  # cooldown is never against the owner's own address
        return place_of_row(max(earlier, key=lambda row: row.since))
    return pick(scene, pool, family)


def pick(scene: Scene, pool: Pool, family: int) -> Place:
    """A free address of `pool`. Raises `NoneFree`."""
    found = scene.ledger.pick(pool.id, family, pool.cooled(scene.now), restricted=pool.is_restricted)
    if found is None:
        raise NoneFree(pool, family)
    return found


def _first_usable(wished: Sequence[IPAddress], scene: Scene, pool: Pool, owner: str) -> Place:
    errors: list[ServiceError] = []
    for address in wished:
        found = usable(address, scene, pool, owner)
        if isinstance(found, Place):
            return found
        errors.append(found)
    if len(errors) == 1:
        raise errors[0]
    raise ServiceError(
        Code.ADDRESS_IN_USE,
        f"none of the {len(errors)} addresses asked for is free: " + "; ".join(e.message for e in errors),
        retryable=any(error.retryable for error in errors),
        addresses=[str(address) for address in wished],
    )


def usable(address: IPAddress, scene: Scene, pool: Pool, owner: str) -> Place | ServiceError:
    """The place of an address that `owner` may have of `pool` now, or why it may not."""
    network, place = scene.network, scene.ledger.place_at(scene.network.id, address)
    if place is None:
        return _unknown(address, network)
    if place.pool_id != pool.id:
        there = network.pool(place.pool_id).name
        return ServiceError(
            Code.POOL_UNSUITABLE,
            f"{address} lies in pool {there}, not in {pool.name}: name addresses of one pool",
            address=str(address),
            pool=there,
        )
    row = place.row
    if row is None:
        return place
    if row.state != "free":
        return held(network.name, row)
    wall = not pool.is_restricted and row.owner != owner
    if wall and row.since > pool.cooled(scene.now):
        return ServiceError(
            Code.ADDRESS_COOLING,
            f"{address} was freed at {row.since:%H:%M:%S} UTC by {row.owner} and cools down for "
            f"{pool.cooldown_s} s in pool {pool.name}",
            address=str(address),
        )
    return place


def held(network: str, row: Allocation) -> ServiceError:
    """Why an address that is not free cannot be had."""
    if row.state == "quarantined":
        return in_quarantine(network, row)
    doing = (
        f"waits for {row.owner}" if row.state == "waiting" else f"is attached to {row.owner} on {row.node}"
    )
    return ServiceError(
        Code.ADDRESS_IN_USE,
        f"{row.address} {doing}. Name another address, or see `moorage address show {network} {row.address}`",
        address=str(row.address),
        owner=row.owner,
        state=row.state,
        node=row.node,
    )


def in_quarantine(network: str, row: Allocation) -> ServiceError:
    """Why an address in quarantine cannot be had, and how it can again."""
    return ServiceError(
        Code.ADDRESS_QUARANTINED,
        f"{row.address} is quarantined since {row.since:%Y-%m-%d %H:%M:%S} UTC; `moorage history {network} "
        f"--address {row.address}` says why. Once that is mended: `moorage address release {network} "
        f"{row.address} --reason TEXT`",
        address=str(row.address),
        owner=row.owner,
    )


def pinned_otherwise(owner: str, ifname: str, network: Network, pinned: Sequence[Allocation]) -> ServiceError:
    """Why an owner that is pinned cannot have another address."""
    has = ", ".join(str(row.address) for row in pinned)
    pool = network.pool(pinned[0].pool_id).name
    return ServiceError(
        Code.OWNER_PINNED,
        f"{owner} {ifname} is pinned to {has} in pool {pool} and cannot have another address "
        f"as well. Ask for none, or move it: `moorage address rebind {network.name} {owner} "
        "--address ADDRESS`",
        pool=pool,
        addresses=[str(row.address) for row in pinned],
    )


def _elsewhere(request: AddressAllocate, row: Allocation) -> ServiceError:
    return ServiceError(
        Code.OWNER_ATTACHED_ELSEWHERE,
        f"{request.owner} still holds {row.address} on node {row.node} (container {row.container_id}, since "
        f"{row.since:%Y-%m-%d %H:%M:%S} UTC). It moves here as soon as {row.node} releases it: delete the "
        f"old pod there, or start the node worker of {row.node} if it is down; if that machine is off for "
        f"good: `moorage node fence {row.node} --reason TEXT`",
        address=str(row.address),
        node=row.node,
        container_id=row.container_id,
    )
