"""`address.reserve`, `address.rebind` and `address.release_by_operator`: what people do with addresses."""

from collections import Counter
from dataclasses import replace

from allocator import policy
from allocator.admission import admit, check_owner
from allocator.handlers.addresses import detach, free, withhold
from allocator.handlers.exhaustion import explain_exhaustion
from allocator.loading import Wanted, load, load_supplies, note_macs
from allocator.macs import candidates, choose_mac, derive
from allocator.model import Allocation, Network, Pool
from allocator.policy import Scene
from allocator.supply import Place, place_of_row
from allocator.views import address_view
from allocator.work import Notice, Work
from broker.outcome import Delivery
from schemas.address import (
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressView,
    OwnerAddresses,
)
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress


def _scene(work: Work, network: Network, owner: str | None, *addresses: IPAddress) -> Scene:
    """Where this is decided, with the rows of the owner and of the addresses that are named."""
    wanted = Wanted()
    sought = wanted.sought[network.id]
    sought.addresses.update(addresses)
    if owner is not None:
        sought.owners.add(owner)
    load(work, wanted)
    return Scene(network, work.ledger, work.now, work.paused)


def _pinned(scene: Scene, owner: str, ifname: str) -> dict[int, Allocation]:
    """What the owner is pinned to, by family."""
    rows = scene.ledger.of_owner(scene.network.id, owner, ifname)
    return {row.family: row for row in rows if row.pinned_owner is not None}


def reserve(request: AddressReserve, delivery: Delivery, work: Work, network: Network) -> OwnerAddresses:
    """Pin one address of each family to the owner. What it is pinned to already stays."""
    _check_active(network)
    scene = _scene(work, network, request.owner, *request.addresses)
    policy.check_running(scene)
    check_owner(request.owner, network.definition.owners, f"network {network.name}")
    policy.check_families(request.addresses, network)
    pinned = _pinned(scene, request.owner, request.ifname)
    _check_agreeing(request, network, pinned)
    pool = _pinned_pool(policy.pool_for(request, scene, list(pinned.values())), request.owner)
    missing = [family for family in network.families if family not in pinned]
    if not missing:
        return _addresses_of(work, network, request.owner, request.ifname)
    load_supplies(work, Counter({(network.id, pool.id): 1}))
    kept = {family: place_of_row(row) for family, row in pinned.items()}
    own = scene.ledger.of_owner(network.id, request.owner, request.ifname)
    try:
        new = {family: policy.place_for(request, scene, pool, family, own) for family in missing}
    except policy.NoneFree as none:
        raise explain_exhaustion(work, network, none.pool, none.family) from none
    note_macs(work, network.id, {mac for place in new.values() for mac in candidates(place.address)})
    everything = kept | new
    mac = choose_mac(network, work.ledger, [everything[family] for family in sorted(everything)], None)
    for place in new.values():
        row = _reserve(work, place, request.owner, request.ifname, mac)
        work.record_address("address.reserved", row, delivery.user_id, pool.name)
    return _addresses_of(work, network, request.owner, request.ifname)


def _check_agreeing(request: AddressReserve, network: Network, pinned: dict[int, Allocation]) -> None:
    """Raise `owner_pinned` where the owner is pinned to something else than is asked for."""
    for row in pinned.values():
        other_pool = request.pool is not None and request.pool != network.pool(row.pool_id).name
        if other_pool or any(a.version == row.family and a != row.address for a in request.addresses):
            raise policy.pinned_otherwise(request.owner, request.ifname, network, list(pinned.values()))


def rebind(request: AddressRebind, delivery: Delivery, work: Work, network: Network) -> OwnerAddresses:
    """Pin the owner to other addresses, and let go of the old ones, in one transaction.

    A pod that runs keeps its old address, which is nobody's then: it is free once the pod has ended.
    """
    _check_active(network)
    scene = _scene(work, network, request.owner, *request.addresses)
    policy.check_running(scene)
    check_owner(request.owner, network.definition.owners, f"network {network.name}")
    pinned = _pinned(scene, request.owner, request.ifname)
    moved: dict[int, Place] = {
        address.version: _target(scene, request.owner, address)
        for address in request.addresses
        if _movable(pinned, request, address).address != address
    }
    if not moved:
        return _addresses_of(work, network, request.owner, request.ifname)
    _check_one_pool(network, request.owner, {f: place_of_row(row) for f, row in pinned.items()} | moved)
    note_macs(work, network.id, {mac for place in moved.values() for mac in candidates(place.address)})
    mac = _mac_after(work, network, pinned, moved)
    for family, place in moved.items():
        old = pinned[family]
        _let_go(work, network, old, delivery.user_id)
        row = _reserve(work, place, request.owner, request.ifname, mac)
        pool = network.pool(place.pool_id).name
        details = {"from": str(old.address)}
        work.record_address("address.rebound", row, delivery.user_id, pool, details=details)
    for row in _pinned(scene, request.owner, request.ifname).values():
        if row.state == "waiting" and not work.ledger.has_mac(network.id, row.family, mac):
            work.ledger.put(replace(row, mac=mac))
    return _addresses_of(work, network, request.owner, request.ifname)


def _check_one_pool(network: Network, owner: str, places: dict[int, Place]) -> None:
    """Raise `pool_unsuitable` where an owner's addresses would lie in different pools: an ADD names one."""
    if len({place.pool_id for place in places.values()}) > 1:
        lying = [f"{place.address} in {network.pool(place.pool_id).name}" for place in places.values()]
        raise ServiceError(
            Code.POOL_UNSUITABLE,
            f"all addresses of {owner} must lie in one pool, and they would be {' and '.join(lying)}: name "
            "an address of each family, all of one pool",
            addresses=[str(place.address) for place in places.values()],
        )


def _mac_after(work: Work, network: Network, pinned: dict[int, Allocation], moved: dict[int, Place]) -> str:
    """The owner's MAC once it has moved: that of its first address, which may be a new one."""
    first = min(pinned)
    known = pinned[first].mac
    if first not in moved and known is not None:
        return known
    address = moved[first].address if first in moved else pinned[first].address
    return derive(network, work.ledger, address, {row.mac for row in pinned.values()})


def _movable(pinned: dict[int, Allocation], request: AddressRebind, address: IPAddress) -> Allocation:
    row = pinned.get(address.version)
    if row is None:
        raise ServiceError(
            Code.ADDRESS_UNKNOWN,
            f"{request.owner} {request.ifname} is pinned to no IPv{address.version} address in network "
            f"{request.network}: `moorage address reserve {request.network} {request.owner} --address "
            f"{address}` pins one",
            owner=request.owner,
        )
    return row


def _target(scene: Scene, owner: str, address: IPAddress) -> Place:
    place = scene.ledger.place_at(scene.network.id, address)
    pool = scene.network.pool(place.pool_id) if place is not None else scene.network.pools[0]
    found = policy.usable(address, scene, pool, owner)
    if isinstance(found, ServiceError):
        raise found
    _pinned_pool(pool, owner)
    return found


def _let_go(work: Work, network: Network, old: Allocation, user_id: str) -> None:
    if old.state == "waiting":
        free(work, network, old, user_id, rebound=True)
    else:  # attached or quarantined: nobody's from now on, and free when that ends
        mac = old.mac if old.state == "attached" else None
        work.ledger.put(replace(old, pinned_owner=None, mac=mac))


def _reserve(work: Work, place: Place, owner: str, ifname: str, mac: str) -> Allocation:
    """Let the address wait for its owner. While a pod of its runs with that MAC, it has none: it gets what
    the owner has when it comes.
    """
    taken = work.ledger.has_mac(place.network_id, place.address.version, mac)
    row = place.blank(work.now).reserved(owner, ifname, None if taken else mac, work.now)
    work.ledger.put(row, place)
    return row


def _pinned_pool(pool: Pool, owner: str) -> Pool:
    admit(owner, pool)
    if pool.policy != "pinned":
        raise ServiceError(
            Code.POOL_UNSUITABLE,
            f"pool {pool.name} is {pool.policy}: only in a pinned pool does an address wait for its owner. "
            "Name a pinned pool, or make one (`moorage pool create`)",
            pool=pool.name,
        )
    return pool


def _check_active(network: Network) -> None:
    if network.state != "active":
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"network {network.name} is {network.state}; try again once it is active",
            network=network.name,
            state=network.state,
        )


def _addresses_of(work: Work, network: Network, owner: str, ifname: str) -> OwnerAddresses:
    rows = work.ledger.of_owner(network.id, owner, ifname)
    views = tuple(address_view(network, row) for row in rows if row.pinned_owner is not None)
    return OwnerAddresses(addresses=views)


def release(
    request: AddressReleaseByOperator, delivery: Delivery, work: Work, network: Network
) -> AddressView:
    """Free an address that waits; end a quarantine; with `force`, quarantine what a lost pod holds."""
    scene = _scene(work, network, None, request.address)
    row = scene.ledger.at(network.id, request.address)
    if row is None:
        raise ServiceError(
            Code.ADDRESS_UNKNOWN,
            f"{request.address} was never used in network {network.name}: there is nothing to release",
            address=str(request.address),
        )
    if row.state == "free":
        return address_view(network, row)
    if request.expected_owner not in (None, row.owner):
        raise ServiceError(
            Code.ADDRESS_IN_USE,
            f"{row.address} belongs to {row.owner} by now, not to {request.expected_owner}: nothing was "
            f"released. Look again: `moorage address show {network.name} {row.address}`",
            address=str(row.address),
            owner=row.owner,
        )
    return address_view(network, _let_loose(request, delivery, work, network, row))


def _let_loose(
    request: AddressReleaseByOperator, delivery: Delivery, work: Work, network: Network, row: Allocation
) -> Allocation:
    if row.state == "quarantined" and row.pinned_owner is not None:
        return detach(work, network, row, delivery.user_id, reason=request.reason)
    if row.state != "attached":
        return free(work, network, row, delivery.user_id, reason=request.reason)
    if not request.force:
        raise ServiceError(
            Code.ADDRESS_IN_USE,
            f"{row.address} is attached to {row.owner} on {row.node} (container {row.container_id}): delete "
            f"that pod and it is released; if the machine is off for good, `moorage node fence {row.node} "
            "--reason TEXT`. Only if the pod is known to be gone although its node lives, use --force: the "
            "address is quarantined then, and a second release frees it",
            address=str(row.address),
            owner=row.owner,
            node=row.node,
        )
    return _withhold_all(request, delivery, work, network, row)


def _withhold_all(
    request: AddressReleaseByOperator, delivery: Delivery, work: Work, network: Network, row: Allocation
) -> Allocation:
    """End the attachment of `row`: whatever else it has would be as little safe to give to others."""
    if row.node is not None:
        work.notices.append(Notice(row.node))
    if row.attachment_id is not None:
        load(work, Wanted(attachments={row.attachment_id}))
        for other in work.ledger.of_attachment(row.attachment_id):
            withhold(work, network, other, delivery.user_id, reason=request.reason, forced="true")
    return work.ledger.at(network.id, row.address) or row
