"""`address.allocate` and `address.release`."""

from dataclasses import replace
from datetime import UTC
from typing import Any
from uuid import UUID

from allocator import policy
from allocator.handlers.picking import Pick, pick
from allocator.model import Allocation, Network, Pool, pool_mac
from allocator.store import allocations
from allocator.work import Work
from broker.outcome import Delivery, Dropped, Outcome, Reply
from schemas.address import AddressAllocate, AddressRelease, Allocated, AllocatedAddress, Released
from schemas.errors import Code, ServiceError

_MAC_TRIES = 8


def allocate(request: AddressAllocate, delivery: Delivery, work: Work) -> Outcome:
    """Give the owner its addresses for one attachment (DESIGN section 6, promises 1 to 4 and 6)."""
    if request.deadline is not None and request.deadline < work.now.replace(tzinfo=UTC):
        return Dropped("the deadline passed before the request was served")
    network = work.network(request.network)
    facts = policy.Facts(
        attached=tuple(allocations.of_attachment(work.connection, request.attachment_id)),
        pinned=tuple(allocations.of_pinned(work.connection, network.id, request.owner, request.ifname)),
        released=work.was_released(request.attachment_id),
    )
    decision = policy.decide_allocate(request, network, facts)
    if isinstance(decision, policy.Repeat):
        replaces = work.replaced_by(request.attachment_id)
        return Reply(_answer(request, network, decision.rows, replaces))
    picks = [pick(work, network, decision.pool, family) for family in decision.families]
    rows = _attach(request, delivery, work, network, decision, picks)
    return Reply(_answer(request, network, rows, decision.replaces))


def _attach(
    request: AddressAllocate,
    delivery: Delivery,
    work: Work,
    network: Network,
    decision: policy.Attach,
    picks: list[Pick],
) -> tuple[Allocation, ...]:
    pool = decision.pool
    mac = _choose_mac(work, network, decision.keep, picks)
    values: dict[str, Any] = {
        "network_id": network.id,
        "state": "attached",
        "since": work.now,
        "owner": request.owner,
        "pinned_owner": request.owner if pool.policy == "pinned" else None,
        "ifname": request.ifname,
        "mac": mac,
        "node": request.node,
        "container_id": request.container_id,
        "attachment_id": request.attachment_id,
    }
    rows = []
    for row in decision.keep:
        if row.state == "attached":
            work.record_address("address.taken_over", row, pool.name, delivery.user_id)
        allocations.attach_row(work.connection, row, values)
        rows.append(_attached(row, pool, values))
    for found in picks:
        if found.row is not None:
            allocations.attach_row(work.connection, found.row, values)
        else:
            allocations.attach_new(work.connection, found.part, found.address, values)
        rows.append(_attached(found.as_row(network.id, work.now), pool, values))
    details = {"replaces": [str(replaced) for replaced in decision.replaces]} if decision.replaces else {}
    for row in rows:
        work.record_address("address.attached", row, pool.name, delivery.user_id, details=details)
    return tuple(rows)


def _attached(row: Allocation, pool: Pool, values: dict[str, Any]) -> Allocation:
    return replace(row, pool_id=pool.id, **values)


def _choose_mac(work: Work, network: Network, keep: tuple[Allocation, ...], picks: list[Pick]) -> str:
    """The MAC the addresses have already; else the one that belongs to the first of them."""
    for row in keep:
        if row.mac is not None:
            return row.mac
    addresses = [found.address for found in picks]
    leader = min(addresses, key=lambda address: address.version)
    if leader.version == 4:
        return pool_mac(leader)
    candidates = [pool_mac(leader, attempt) for attempt in range(_MAC_TRIES)]
    taken = allocations.macs_in_use(work.connection, network.id, 6, candidates)
    for mac in candidates:
        if mac not in taken:
            return mac
    raise ServiceError(
        Code.INTERNAL,
        f"{_MAC_TRIES} MAC addresses derived from {leader} are all taken in network {network.name}",
    )


def _answer(
    request: AddressAllocate,
    network: Network,
    rows: tuple[Allocation, ...],
    replaces: tuple[UUID, ...],
) -> Allocated:
    pool = network.pool(rows[0].pool_id)
    ordered = sorted(rows, key=lambda row: row.family)
    mac = ordered[0].mac
    assert mac is not None  # noqa: S101  an attached row has a MAC
    addresses = []
    for row in ordered:
        subnet = network.subnet_of(row.address)
        addresses.append(
            AllocatedAddress(address=row.address, prefix=subnet.cidr.prefixlen, gateway=subnet.gateway)
        )
    return Allocated(
        network=network.name,
        network_version=network.version,
        pool=pool.name,
        policy=pool.policy,
        attachment_id=request.attachment_id,
        addresses=tuple(addresses),
        mac=mac,
        mtu=network.definition.mtu,
        replaces=replaces,
    )


def release(request: AddressRelease, delivery: Delivery, work: Work) -> Outcome:
    """Free what the named attachment holds, and nothing else (promise 3). An unknown one is a success."""
    network = work.find_network(request.network)
    if network is None:
        return Reply(Released())
    rows = _named(request, work, network)
    if not rows:
        _note_early(request, delivery, work, network)
    for row in rows:
        pool = network.pool(row.pool_id)
        allocations.detach(work.connection, row, work.now)
        event = "address.waiting" if row.pinned_owner is not None else "address.freed"
        work.record_address(event, row, pool.name, delivery.user_id)  # type: ignore[arg-type]
    return Reply(Released(addresses=tuple(row.address for row in rows)))


def _note_early(request: AddressRelease, delivery: Delivery, work: Work, network: Network) -> None:
    """Let history know a release that overtook its allocate, so that the late one attaches nobody."""
    attachment_id = request.attachment_id
    if attachment_id is None or work.was_released(attachment_id):
        return
    if allocations.of_attachment(work.connection, attachment_id):
        return  # it lives, on another node or network: no business of this request's sender
    work.record(
        network.id,
        "address.freed",
        delivery.user_id,
        ifname=request.ifname,
        node=request.node,
        container_id=request.container_id,
        attachment_id=attachment_id,
        details={"early": True},
    )


def _named(request: AddressRelease, work: Work, network: Network) -> list[Allocation]:
    if request.attachment_id is None:
        return allocations.of_container(
            work.connection, network.id, request.node, request.container_id, request.ifname
        )
    rows = allocations.of_attachment(work.connection, request.attachment_id)
    return [row for row in rows if row.node == request.node and row.network_id == network.id]
