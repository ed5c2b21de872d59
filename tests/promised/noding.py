"""What is right for `node.sync`, `node.heartbeat` and `node.fence`: nodes that come, go and come back."""

from uuid import UUID

from broker.outcome import Outcome, Refused, Reply
from schemas.node import (
    DesiredPage,
    Heartbeat,
    NodeAttachment,
    NodeFence,
    NodeFenced,
    NodeHeartbeat,
    NodeSync,
    attachments_digest,
)
from tests.promised.book import Book, NodeFacts
from tests.promised.state import Net, Row, allows, plain_mac


def heartbeat(book: Book, r: NodeHeartbeat, outcome: Outcome) -> None:
    assert isinstance(outcome, Reply), outcome
    beat = outcome.message
    assert isinstance(beat, Heartbeat)
    facts = book.nodes.get(r.node)
    known = facts is not None and facts.session == r.session != facts.fenced
    if facts is not None and book.paused and facts.state != "ready":
        known = False  # it has to say what it has
    assert bool(beat.digest) == known
    assert beat.fenced == (facts is not None and facts.fenced == r.session)
    if facts is None or not known:
        return
    has = {row.attachment for _, row in book.attached_on(r.node)}
    assert beat.attachments == attachments_digest(has)  # type: ignore[arg-type]
    if facts.state != "ready":
        book.user, facts.state = f"node.{r.node}", "ready"
        book.note_node("node.ready", r.node)


def sync(book: Book, r: NodeSync, outcome: Outcome) -> None:
    """Ended attachments are stale; unknown ones are adopted in a pause, otherwise withheld."""
    assert isinstance(outcome, Reply), outcome
    page = outcome.message
    assert isinstance(page, DesiredPage)
    fenced = _join(book, r)
    named = set(r.attachments or ()) | {item.attachment_id for item in r.details}
    stale = {n for n in named if fenced or _is_stale(book, r.node, n)}
    leftover = {row.attachment for _, row in book.attached_on(r.node)} - named
    for item in r.details:
        if item.attachment_id not in stale and not book.attached_to(item.attachment_id):
            _meet(book, r.node, item)
    assert set(page.stale) == stale
    assert set(page.unknown) == {n for n in named - stale if not book.attached_to(n)}
    told = book.paused and r.attachments is not None
    assert {left.attachment_id for left in page.leftover} == (leftover if told else set())


def _join(book: Book, r: NodeSync) -> bool:
    """Make the session the node's present one; whether it was declared off."""
    facts = book.nodes.get(r.node)
    if facts is not None and facts.fenced == r.session:
        return True
    if facts is None or facts.session != r.session or facts.state != "ready":
        book.note_node("node.ready", r.node)
    book.nodes[r.node] = NodeFacts(r.session, facts.fenced if facts else None)
    return False


def _is_stale(book: Book, node: str, attachment: UUID) -> bool:
    rows = book.attached_to(attachment)
    return attachment in book.ended or any(row.node != node for _, row in rows)


def _meet(book: Book, node: str, item: NodeAttachment) -> None:
    """Somebody runs whom nobody knows."""
    net = book.networks.get(item.network)
    if net is None:
        return
    if book.paused and _may_be_adopted(net, item):
        for address in item.addresses:
            row = book.row_at(net, address)
            row.state, row.since, row.owner, row.ifname = "attached", book.now, item.owner, item.ifname
            row.node, row.container, row.attachment = node, item.container_id, item.attachment_id
            row.mac, row.pinned = item.mac, net.pool_at(address).policy == "pinned"
            book.note(net, "address.adopted", row)
        return
    for address in item.addresses:
        if address in net.where and not net.held([address]):
            row = book.row_at(net, address)
            row.owner, row.ifname, row.node = item.owner, item.ifname, node
            book.end(net, row, "quarantined")


def _may_be_adopted(net: Net, item: NodeAttachment) -> bool:
    pins = net.pins(item.owner, item.ifname)
    if not allows(net.owners, item.owner) or any(address not in net.where for address in item.addresses):
        return False
    families = {address.version for address in item.addresses}
    for family, row in pins.items():
        if row.state != "waiting" or (family in families and row.address not in item.addresses):
            return False
    return all(_is_his(net, item, net.rows.get(address)) for address in item.addresses) and all(
        allows(pool.owners, item.owner) and pool.policy != "reserved"
        for pool in map(net.pool_at, item.addresses)
    )


def _is_his(net: Net, item: NodeAttachment, row: Row | None) -> bool:
    if row is not None and row.held and row not in net.pins(item.owner, item.ifname).values():
        return False
    carriers = net.with_mac(item.mac)
    if carriers:
        return any(other.address in item.addresses for other in carriers)
    # Where nobody expects a MAC to be taken, nobody may bring that of an address of others.
    trusting = net.families == [4] and not any(pool.allow_mac for pool in net.pools.values())
    return not trusting or not item.mac.startswith("0a:58") or item.mac in map(plain_mac, item.addresses)


def fence(book: Book, r: NodeFence, outcome: Outcome) -> None:
    """All that is attached on a node is over, if it is this life of the node that is meant."""
    facts = book.nodes.get(r.node)
    if facts is None:
        assert isinstance(outcome, Refused)
        assert outcome.error.code == "node_unknown"
        return
    if facts.session != r.session:
        assert outcome == Reply(NodeFenced(node=r.node, session=facts.session, fenced=False))
        return
    rows = book.attached_on(r.node)
    for net, row in rows:
        book.end(net, row)
    facts.state, facts.fenced = "fenced", r.session
    book.note_node("node.fenced", r.node)
    assert outcome == Reply(NodeFenced(node=r.node, session=r.session, fenced=True, released=len(rows)))
