"""What a node says it has, compared with what the database says: stale, unknown or left over.

stale: history knows how it ended, so its endpoint must go. unknown: neither rows nor history know it, as
after a restored backup or a failover that lost commits. left over: the database has it, the node has not.
"""

from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from allocator import policy
from allocator.admission import admit, check_owner
from allocator.handlers.addresses import withhold
from allocator.loading import Wanted, load, note_macs
from allocator.model import Attachment
from allocator.store import allocations, networks, nodes
from allocator.supply import Place
from allocator.work import Work
from schemas.errors import Code, ServiceError
from schemas.node import LeftoverAttachment, NodeAttachment, NodeSync

log = structlog.get_logger("moorage.allocator")


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer's part about attachments."""

    stale: tuple[UUID, ...] = ()
    unknown: tuple[UUID, ...] = ()
    leftover: tuple[LeftoverAttachment, ...] = ()


def judge(request: NodeSync, user_id: str, work: Work) -> Judged:
    """Compare; adopt or flag those that the node tells the details of."""
    if request.attachments is None and not request.details:
        return Judged()
    named = set(request.attachments or ()) | {item.attachment_id for item in request.details}
    networks_named = {item.network for item in request.details}
    work.lock(sorted(networks_named))
    wanted = Wanted(attachments=set(named))
    for item in request.details:
        network = work.find_network(item.network)
        if network is not None:
            wanted.sought[network.id].owners.add(item.owner)
            wanted.sought[network.id].addresses.update(item.addresses)
    load(work, wanted)
    stale = {named_id for named_id in named if _is_stale(work, request.node, named_id)}
    if _is_fenced(work, request):
        stale = set(named)
    for item in request.details:
        if item.attachment_id not in stale and not work.ledger.of_attachment(item.attachment_id):
            _adopt_or_flag(item, request.node, user_id, work)
    unknown = {n for n in named - stale if not work.ledger.of_attachment(n)}
    leftover = _leftover(request, work) if work.paused and request.attachments is not None else ()
    work.flush()
    return Judged(tuple(sorted(stale)), tuple(sorted(unknown)), leftover)


def _is_stale(work: Work, node: str, attachment_id: UUID) -> bool:
    rows = work.ledger.of_attachment(attachment_id)
    elsewhere = bool(rows) and all(row.node != node for row in rows)
    return elsewhere or attachment_id in work.ledger.ended


def _is_fenced(work: Work, request: NodeSync) -> bool:
    """Whether this session was declared off: whatever it still has, nobody answers for."""
    known = nodes.sessions(work.connection, {request.node}).get(request.node)
    return known is not None and known.fenced_session == request.session


def _leftover(request: NodeSync, work: Work) -> tuple[LeftoverAttachment, ...]:
    named = set(request.attachments or ())
    rows = [
        row for row in allocations.on_node(work.connection, request.node) if row.attachment_id not in named
    ]
    names = networks.names_by_id(work.connection, {row.network_id for row in rows})
    return tuple(
        {
            row.attachment_id: LeftoverAttachment(
                attachment_id=row.attachment_id,
                network=names[row.network_id],
                container_id=row.container_id,
                ifname=row.ifname,
            )
            for row in rows
            if row.attachment_id is not None
        }.values()
    )


def _adopt_or_flag(item: NodeAttachment, node: str, user_id: str, work: Work) -> None:
    about = {"node": node, "attachment": str(item.attachment_id), "owner": item.owner}
    network = work.find_network(item.network)
    if network is None or network.state != "active":
        log.warning("unknown attachment on an unknown network", network=item.network, **about)
        return
    scene = policy.Scene(network, work.ledger, work.now)
    if work.paused:
        try:
            _adopt(item, _places(item, scene), node, user_id, work)
        except ServiceError as error:
            log.warning("unknown attachment cannot be adopted", reason=error.message, **about)
        else:
            return
    _flag(item, scene, node, user_id, work)
    addresses = [str(address) for address in item.addresses]
    log.warning("unknown attachment, its free addresses are withheld", addresses=addresses, **about)


def _places(item: NodeAttachment, scene: policy.Scene) -> list[Place]:
    """Where the attachment's addresses lie, if nobody else has them. Raises as an allocate would."""
    check_owner(item.owner, scene.network.definition.owners, f"network {scene.network.name}")
    own = [
        row for row in scene.ledger.of_owner(scene.network.id, item.owner, item.ifname) if row.pinned_owner
    ]
    for row in own:
        if row.state == "attached" or row.address not in item.addresses:
            raise policy.pinned_otherwise(item.owner, item.ifname, scene.network, own)
    places = []
    for address in item.addresses:
        place = scene.ledger.place_at(scene.network.id, address)
        if place is None:
            raise ServiceError(Code.ADDRESS_UNKNOWN, f"{address} is not of network {scene.network.name}")
        pool = scene.network.pool(place.pool_id)
        admit(item.owner, pool)
        held = place.row
        # No cooldown counts here: the pod has had the address all the time.
        if held is not None and held.state != "free" and held not in own:
            raise policy.held(scene.network.name, held)
        places.append(place)
    return places


def _adopt(item: NodeAttachment, places: list[Place], node: str, user_id: str, work: Work) -> None:
    network = work.network(item.network)
    note_macs(work, network.id, {item.mac})
    to = Attachment(item.attachment_id, item.owner, item.ifname, node, item.container_id)
    for place in places:
        taken = work.ledger.has_mac(network.id, place.address.version, item.mac)
        if taken and (place.row is None or place.row.mac != item.mac):
            raise ServiceError(Code.MAC_IN_USE, f"{item.mac} is in use in network {network.name}")
    for place in places:
        pool = network.pool(place.pool_id)
        row = place.blank(work.now).attached(to, pool, item.mac, work.now)
        work.ledger.put(row, place)
        work.record_address("address.adopted", row, user_id, pool.name)


def _flag(item: NodeAttachment, scene: policy.Scene, node: str, user_id: str, work: Work) -> None:
    """Withhold what nobody has: it is heard from on that node. The attachment itself is not ended by that."""
    for address in item.addresses:
        place = scene.ledger.place_at(scene.network.id, address)
        if place is None or (place.row is not None and place.row.state != "free"):
            continue
        seen = replace(
            place.blank(work.now),
            owner=item.owner,
            ifname=item.ifname,
            node=node,
            container_id=item.container_id,
        )
        reason = f"in use by an attachment of {item.owner} that the allocator does not know"
        attachment = str(item.attachment_id)
        withhold(work, scene.network, seen, user_id, reason=reason, attachment=attachment)
