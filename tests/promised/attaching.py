"""What is right for `address.allocate`, `address.release` and `address.quarantine`."""

from collections.abc import Collection
from datetime import UTC
from uuid import UUID

from broker.outcome import Dropped, Outcome, Refused, Reply
from schemas.address import AddressAllocate, AddressQuarantine, AddressRelease, AddressReserve, Allocated
from schemas.fields import IPAddress
from schemas.message import Done
from tests.promised.book import Book, Reasons
from tests.promised.state import Net, Pins, Pool, Row, allows, plain_mac

Choices = dict[int, set[IPAddress]]
"""Of each family, which addresses may be given."""


def allocate(book: Book, r: AddressAllocate, outcome: Outcome) -> None:
    if r.deadline is not None and r.deadline < book.now.replace(tzinfo=UTC):
        assert isinstance(outcome, Dropped)
        return
    if r.network not in book.networks:
        assert isinstance(outcome, Refused)
        assert outcome.error.code == "network_unknown"
        return
    net = book.networks[r.network]
    mine = book.attached_to(r.attachment_id)
    if mine and r.attachment_id not in book.ended:
        _repeated(net, r, outcome, mine, book.answers.get(r.attachment_id))
        return
    why = Reasons()
    if r.attachment_id in book.ended:
        why.add("attachment_released")
    if book.paused:
        why.add("paused")
    choices, replaced = _wanted(book, net, r, why)
    answer = why.settle(outcome)
    if answer is not None:
        _attach(book, net, r, answer, choices, replaced)


def _repeated(
    net: Net,
    r: AddressAllocate,
    outcome: Outcome,
    mine: list[tuple[Net, Row]],
    before: Allocated | None,
) -> None:
    """The same again gets the same answer; another one under the same id is refused."""
    asked = (r.network, r.owner, r.node, r.container_id, r.ifname)
    if any((n.name, row.owner, row.node, row.container, row.ifname) != asked for n, row in mine):
        assert isinstance(outcome, Refused)
        assert outcome.error.code == "attachment_conflict"
        return
    assert isinstance(outcome, Reply), outcome
    answer = outcome.message
    assert isinstance(answer, Allocated)
    _check_answer(net, r, answer, [row for _, row in mine])
    if before is not None:
        assert answer.model_copy(update={"network_version": before.network_version}) == before


def _check_answer(net: Net, r: AddressAllocate, answer: Allocated, rows: list[Row]) -> None:
    pool = net.pool_at(rows[0].address)
    assert (answer.network, answer.attachment_id) == (net.name, r.attachment_id)
    assert (answer.pool, answer.policy) == (pool.name, pool.policy)
    assert [given.address for given in answer.addresses] == [row.address for row in rows]
    assert {row.mac for row in rows} == {answer.mac}
    for given in answer.addresses:
        subnet = net.subnet_of(given.address)
        assert (given.prefix, given.gateway) == (subnet.cidr.prefixlen, subnet.gateway)


def _wanted(book: Book, net: Net, r: AddressAllocate, why: Reasons) -> tuple[Choices, list[UUID]]:
    if not allows(net.owners, r.owner):
        why.add("owner_forbidden")
    pins = net.pins(r.owner, r.ifname)
    wished = {address.version for address in r.addresses}
    check_families(net, r, why)
    for family, row in pins.items():
        pool = net.pool_at(row.address)
        if not allows(pool.owners, r.owner):
            why.add("owner_forbidden")
        if r.pool not in (None, pool.name) or (family in wished and row.address not in r.addresses):
            why.add("owner_pinned")
        if row.state == "quarantined":
            why.add("address_quarantined")
        if row.state == "attached" and row.node != r.node:
            why.add("owner_attached_elsewhere")
    pool_of_new = pool_for(net, r, pins, why)
    choices = {family: {row.address} for family, row in pins.items()}
    for family in net.families:
        if family not in pins and pool_of_new is not None:
            choices[family] = choices_of(book, net, r, pool_of_new, family, why)
    _check_mac(net, r, pins, pool_of_new, why)
    replaced = {row.attachment for row in pins.values() if row.state == "attached"}
    return choices, [attachment for attachment in replaced if attachment is not None]


def check_families(net: Net, r: AddressAllocate | AddressReserve, why: Reasons) -> None:
    """An address of a family that the network lacks cannot be passed over."""
    if not {address.version for address in r.addresses} <= set(net.families):
        why.add("address_unknown")


def pool_for(net: Net, r: AddressAllocate | AddressReserve, pins: Pins, why: Reasons) -> Pool | None:
    """The pool that new addresses come from."""
    if pins:
        return net.pool_at(pins[min(pins)].address)
    named = r.pool or next((net.where[a] for a in r.addresses if a in net.where), None)
    if named is None:
        return net.closest(r.owner)
    if named not in net.pools:
        why.add("pool_unknown")
        return None
    pool = net.pools[named]
    if not allows(pool.owners, r.owner):
        why.add("owner_forbidden")
    if pool.policy == "reserved":
        why.add("pool_unsuitable")
    return pool


def choices_of(
    book: Book, net: Net, r: AddressAllocate | AddressReserve, pool: Pool, family: int, why: Reasons
) -> set[IPAddress]:
    """The addresses of one family that may be given, where there is none pinned."""
    wished = [address for address in r.addresses if address.version == family]
    if not wished:
        found = net.choices(pool, family, r.owner, r.ifname, book.now)
        if not found:
            why.add("exhausted")
        return found
    obstacles = {address: net.obstacle(address, pool, r.owner, book.now) for address in wished}
    usable = [address for address, obstacle in obstacles.items() if obstacle is None]
    if not usable:
        why.add(obstacles[wished[0]] if len(wished) == 1 else "address_in_use")
    return set(usable[:1])


def _check_mac(net: Net, r: AddressAllocate, pins: Pins, pool: Pool | None, why: Reasons) -> None:
    known = known_mac(pins)
    if r.mac is None or r.mac == known:
        return
    pools = [net.pool_at(row.address) for row in pins.values()]
    if len(pins) < len(net.families) and pool is not None:
        pools.append(pool)
    if not all(pool.allow_mac for pool in pools) or r.mac.startswith(("0a:58:", "0e:58:")):
        why.add("mac_forbidden")
    own = [row.address for row in pins.values()]
    for row in net.with_mac(r.mac):
        (why.may if row.address in own else why.must).add("mac_in_use")


def known_mac(pins: Pins) -> str | None:
    """The MAC that goes with what an owner is pinned to."""
    return next((pins[family].mac for family in sorted(pins) if pins[family].mac), None)


def right_mac(net: Net, addresses: Collection[IPAddress], mac: str, own: Collection[IPAddress]) -> bool:
    """Whether this is the MAC of new addresses: the first one's own, unless somebody else has that."""
    others = {row.mac for row in net.rows.values() if row.address not in own}
    first = min(addresses, key=lambda address: address.version)
    plain = plain_mac(first)
    if mac in others or (mac != plain and not mac.startswith("0e:58:")):
        return False
    return mac == plain or first.version == 6 or plain in others


def _attach(
    book: Book, net: Net, r: AddressAllocate, answer: Allocated, choices: Choices, replaced: list[UUID]
) -> None:
    addresses = [given.address for given in answer.addresses]
    assert [address.version for address in addresses] == net.families
    for address in addresses:
        assert address in choices[address.version], (address, choices)
    pins = net.pins(r.owner, r.ifname)
    known = known_mac(pins)
    if r.mac is not None or known is not None:
        assert answer.mac == (r.mac or known)
    else:
        assert right_mac(net, addresses, answer.mac, [row.address for row in pins.values()])
    assert set(answer.replaces) == set(replaced)
    _take_over(book, net, replaced, addresses)
    net.picked.update(address for address in addresses if address not in {*r.addresses, *net.rows})
    for address in addresses:
        row = book.row_at(net, address)
        row.state, row.since, row.owner, row.ifname = "attached", book.now, r.owner, r.ifname
        row.node, row.container, row.attachment = r.node, r.container_id, r.attachment_id
        row.mac, row.pinned = answer.mac, net.pool_at(address).policy == "pinned"
        book.note(net, "address.attached", row)
    _check_answer(net, r, answer, net.attached_to(r.attachment_id))
    book.answers[r.attachment_id] = answer


def _take_over(book: Book, net: Net, replaced: list[UUID], addresses: list[IPAddress]) -> None:
    """A replaced attachment is over. What it keeps besides is freed by its release."""
    book.ended.update(replaced)
    for attachment in replaced:
        for row in net.attached_to(attachment):
            if row.address in addresses:
                book.note(net, "address.taken_over", row)
            else:
                row.mac = None


def release(book: Book, r: AddressRelease, outcome: Outcome) -> None:
    """It frees what it names, on its own node, and has no "no"."""
    assert isinstance(outcome, Reply), outcome
    answer = outcome.message
    net = book.networks.get(r.network)
    if net is None:
        assert answer.addresses == ()  # type: ignore[attr-defined]
        return
    rows = [row for row in net.rows.values() if row.state == "attached" and row.node == r.node]
    if r.attachment_id is None:
        rows = [row for row in rows if (row.container, row.ifname) == (r.container_id, r.ifname)]
    else:
        rows = [row for row in rows if row.attachment == r.attachment_id]
        if not rows and not book.attached_to(r.attachment_id) and r.attachment_id not in book.ended:
            book.ended.add(r.attachment_id)
            book.events.append((net.name, "address.freed", None, None, r.node, r.attachment_id, book.user))
    assert set(answer.addresses) == {row.address for row in rows}  # type: ignore[attr-defined]
    for row in rows:
        book.end(net, row)


def quarantine(book: Book, r: AddressQuarantine, outcome: Outcome) -> None:
    assert outcome == Reply(Done()), outcome
    net = book.networks.get(r.network)
    rows = [row for row in net.attached_to(r.attachment_id) if row.node == r.node] if net else []
    if net is None or r.address not in {row.address for row in rows}:
        return
    for row in rows:
        book.end(net, row, "quarantined" if row.address == r.address else None)
