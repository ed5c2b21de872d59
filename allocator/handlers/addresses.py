"""`address.allocate`, `address.release` and `address.quarantine`: what nodes ask, in batches.

All rows that a batch may need are in the ledger by now; these functions read and change nothing else.
"""

from dataclasses import replace
from datetime import UTC
from uuid import UUID

from allocator import policy
from allocator.handlers.exhaustion import explain_exhaustion
from allocator.model import Allocation, Network
from allocator.work import Work
from broker.outcome import Delivery, Dropped, Outcome, Reply
from schemas.address import (
    AddressAllocate,
    AddressQuarantine,
    AddressRelease,
    Allocated,
    AllocatedAddress,
    Released,
)
from schemas.message import Done


def allocate(request: AddressAllocate, delivery: Delivery, work: Work) -> Outcome:
    """Give the owner its addresses for one attachment (DESIGN section 6, promises 1 to 4 and 6)."""
    if request.deadline is not None and request.deadline < work.now.replace(tzinfo=UTC):
        return Dropped("the deadline passed before the request was served")
    network = work.network(request.network)
    scene = policy.Scene(network, work.ledger, work.now, work.paused)
    try:
        decision = policy.decide_allocate(request, scene)
    except policy.NoneFree as none:
        raise explain_exhaustion(work, network, none.pool, none.family) from none
    if isinstance(decision, policy.Repeat):
        replaces = work.ledger.replaced.get(request.attachment_id, ())
        return Reply(_answer(request, network, decision.rows, replaces))
    rows = _carry_out(request, delivery, work, network, decision)
    return Reply(_answer(request, network, rows, decision.replaces))


def _carry_out(
    request: AddressAllocate, delivery: Delivery, work: Work, network: Network, decision: policy.Attach
) -> list[Allocation]:
    _end_replaced(delivery, work, network, decision)
    details = {"replaces": [str(replaced) for replaced in decision.replaces]} if decision.replaces else {}
    if decision.replaces:
        work.ledger.replaced[request.attachment_id] = decision.replaces
    rows = policy.attached_rows(request, decision, network, work.now)
    for row, place in zip(rows, decision.places, strict=True):
        work.ledger.put(row, place)
        pool = network.pool(row.pool_id).name
        work.record_address("address.attached", row, delivery.user_id, pool, details=details)
    return rows


def _end_replaced(delivery: Delivery, work: Work, network: Network, decision: policy.Attach) -> None:
    """End the attachments that are taken over from.

    What such a one has besides, because its owner was moved away from it meanwhile, stays with it until the
    node has cut its endpoint and releases it. The MAC goes with the owner.
    """
    taken = {place.address for place in decision.places}
    for replaced in decision.replaces:
        work.ledger.ended.add(replaced)
        for old in work.ledger.of_attachment(replaced):
            if old.address in taken:
                pool = network.pool(old.pool_id).name
                work.record_address("address.taken_over", old, delivery.user_id, pool)
            else:
                work.ledger.put(replace(old, mac=None))


def _answer(
    request: AddressAllocate,
    network: Network,
    rows: list[Allocation] | tuple[Allocation, ...],
    replaces: tuple[UUID, ...],
) -> Allocated:
    pool, mac = network.pool(rows[0].pool_id), rows[0].mac
    assert mac is not None  # noqa: S101  an attached row has a MAC
    addresses = []
    for row in rows:
        subnet = network.subnet_of(row.address)
        addresses.append(
            AllocatedAddress.model_construct(
                address=row.address, prefix=subnet.cidr.prefixlen, gateway=subnet.gateway
            )
        )
    # Not checked again: everything in it was checked on its way into the database.
    return Allocated.model_construct(
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
        detach(work, network, row, delivery.user_id)
    return Reply(Released.model_construct(addresses=tuple(row.address for row in rows)))


def _named(request: AddressRelease, work: Work, network: Network) -> tuple[Allocation, ...]:
    if request.attachment_id is None:
        return work.ledger.of_container(network.id, request.node, request.container_id, request.ifname)
    return _here(work, network, request.node, request.attachment_id)


def _here(work: Work, network: Network, node: str, attachment_id: UUID) -> tuple[Allocation, ...]:
    """What the attachment has on this node in this network."""
    rows = work.ledger.of_attachment(attachment_id)
    return tuple(row for row in rows if row.node == node and row.network_id == network.id)


def detach(work: Work, network: Network, row: Allocation, user_id: str, **details: str | bool) -> Allocation:
    """Take the attachment off a row: a pinned one waits for its owner, another is free."""
    after = row.detached(work.now)
    work.ledger.put(after)
    if row.attachment_id is not None:
        work.ledger.ended.add(row.attachment_id)
    event = "address.waiting" if after.state == "waiting" else "address.freed"
    pool = network.pool(row.pool_id).name
    work.record_address(event, row, user_id, pool, details=details)  # type: ignore[arg-type]
    return after


def free(work: Work, network: Network, row: Allocation, user_id: str, **details: str | bool) -> Allocation:
    """Free an address that nobody is attached to, also from the owner it waits for."""
    after = row.freed(work.now)
    work.ledger.put(after)
    pool = network.pool(row.pool_id).name
    work.record_address("address.freed", row, user_id, pool, details=details)
    return after


def _note_early(request: AddressRelease, delivery: Delivery, work: Work, network: Network) -> None:
    """Let history know a release that overtook its allocate, so that the late one attaches nobody."""
    attachment_id = request.attachment_id
    if attachment_id is None or attachment_id in work.ledger.ended:
        return
    if work.ledger.of_attachment(attachment_id):
        return  # it lives, on another node or network: no business of this request's sender
    work.ledger.ended.add(attachment_id)
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


def quarantine(request: AddressQuarantine, delivery: Delivery, work: Work) -> Outcome:
    """Withhold one address of the node's own attachment, which ends: its other addresses are released."""
    network = work.find_network(request.network)
    rows = _here(work, network, request.node, request.attachment_id) if network is not None else ()
    if network is None or request.address not in {row.address for row in rows}:
        return Reply(Done())
    for row in rows:
        if row.address == request.address:
            withhold(work, network, row, delivery.user_id, reason=request.reason)
        else:
            detach(work, network, row, delivery.user_id)
    return Reply(Done())


def withhold(work: Work, network: Network, row: Allocation, user_id: str, **details: str) -> Allocation:
    """Quarantine a row: nobody gets it until an operator says so."""
    after = row.quarantined(work.now)
    work.ledger.put(after)
    if row.attachment_id is not None:
        work.ledger.ended.add(row.attachment_id)
    pool = network.pool(row.pool_id).name
    work.record_address("address.quarantined", row, user_id, pool, details=details)
    return after
