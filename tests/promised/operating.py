"""What is right for `address.reserve`, `address.rebind` and `address.release_by_operator`."""

from broker.outcome import Outcome
from schemas.address import AddressRebind, AddressReleaseByOperator, AddressReserve, OwnerAddresses
from schemas.fields import IPAddress
from tests.promised.attaching import check_families, choices_of, known_mac, pool_for, right_mac
from tests.promised.book import Book, Reasons
from tests.promised.state import Net, Row, allows


def reserve(book: Book, r: AddressReserve, outcome: Outcome) -> None:
    net, why = book.networks[r.network], Reasons()
    _check_open(book, net, r.owner, why)
    pins = net.pins(r.owner, r.ifname)
    check_families(net, r, why)
    wished = {address.version: address for address in r.addresses}
    for family, row in pins.items():
        if wished.get(family, row.address) != row.address or r.pool not in (None, net.where[row.address]):
            why.add("owner_pinned")
    pool = pool_for(net, r, pins, why)
    if pool is not None and not allows(pool.owners, r.owner):
        why.add("owner_forbidden")
    if pool is not None and pool.policy != "pinned":
        why.add("pool_unsuitable")
    missing = [family for family in net.families if family not in pins]
    choices = {f: choices_of(book, net, r, pool, f, why) for f in missing if pool is not None}
    answer = why.settle(outcome)
    if answer is None:
        return
    new = [view.address for view in answer.addresses if view.address.version in missing]
    for address in new:
        assert address in choices[address.version]
    if new:
        mac = known_mac(pins)
        if mac is None:
            mac = next(view.mac for view in answer.addresses if view.address == new[0])
            assert right_mac(net, new, mac, [row.address for row in pins.values()])
        net.picked.update(address for address in new if address not in {*r.addresses, *net.rows})
        for address in new:
            _pin(book, net, address, r, mac, "address.reserved")
    _check(net, r, answer)
    assert sorted(net.pins(r.owner, r.ifname)) == net.families


def _check_open(book: Book, net: Net, owner: str, why: Reasons) -> None:
    if book.paused:
        why.add("paused")
    if not allows(net.owners, owner):
        why.add("owner_forbidden")


def _pin(
    book: Book, net: Net, address: IPAddress, r: AddressReserve | AddressRebind, mac: str, event: str
) -> None:
    """While a pod runs with that MAC, the address has none."""
    row = book.row_at(net, address)
    row.become("waiting", book.now)
    row.owner, row.ifname, row.pinned = r.owner, r.ifname, True
    row.mac = None if net.has_mac(mac, address.version) else mac
    book.note(net, event, row)


def _check(net: Net, r: AddressReserve | AddressRebind, answer: OwnerAddresses) -> None:
    """The answer shows what the owner is pinned to, and nothing else."""
    pins = net.pins(r.owner, r.ifname)
    assert [view.address.version for view in answer.addresses] == sorted(pins)
    assert all(net.shows(view, pins[view.address.version]) for view in answer.addresses)


def rebind(book: Book, r: AddressRebind, outcome: Outcome) -> None:
    net, why = book.networks[r.network], Reasons()
    _check_open(book, net, r.owner, why)
    pins = net.pins(r.owner, r.ifname)
    moves: list[tuple[Row, IPAddress]] = []
    for address in r.addresses:
        old = pins.get(address.version)
        if old is None:
            why.add("address_unknown")
        elif old.address != address:
            moves.append((old, address))
            _check_target(book, net, r.owner, address, why)
    after = {**{f: row.address for f, row in pins.items()}, **{new.version: new for _, new in moves}}
    if moves and len({net.where.get(address) for address in after.values()}) > 1:
        why.add("pool_unsuitable")
    answer: OwnerAddresses | None = why.settle(outcome)
    if answer is not None and not moves:
        _check(net, r, answer)
    elif answer is not None:
        _move(book, net, r, moves, answer)


def _check_target(book: Book, net: Net, owner: str, address: IPAddress, why: Reasons) -> None:
    if address not in net.where:
        why.add("address_unknown")
        return
    pool = net.pool_at(address)
    why.add(net.obstacle(address, pool, owner, book.now))
    if not allows(pool.owners, owner):
        why.add("owner_forbidden")
    if pool.policy != "pinned":
        why.add("pool_unsuitable")


def _move(
    book: Book, net: Net, r: AddressRebind, moves: list[tuple[Row, IPAddress]], answer: OwnerAddresses
) -> None:
    """The old address is free, or nobody's until its attachment is over; the new one waits."""
    pins = net.pins(r.owner, r.ifname)
    new = {address.version: address for _, address in moves}
    shown = {view.address: view.mac for view in answer.addresses}
    first = min(pins)
    mac = shown[new[first]] if first in new else pins[first].mac
    assert mac is not None
    if first in new:
        assert right_mac(net, [new[first]], mac, [row.address for row in pins.values()])
    for old, address in moves:
        if old.state == "waiting":
            book.end(net, old, "free")
        else:
            old.pinned, old.mac = False, old.mac if old.state == "attached" else None
        _pin(book, net, address, r, mac, "address.rebound")
    for family, row in net.pins(r.owner, r.ifname).items():
        if row.state == "waiting" and not net.has_mac(mac, family):
            row.mac = mac
    _check(net, r, answer)


def release_by_operator(book: Book, r: AddressReleaseByOperator, outcome: Outcome) -> None:
    net, why = book.networks[r.network], Reasons()
    row = net.rows.get(r.address)
    if row is None:
        why.add("address_unknown")
    elif row.held:
        if r.expected_owner not in (None, row.owner):
            why.add("address_in_use")
        if row.state == "attached" and not r.force:
            why.add("address_in_use")
    answer = why.settle(outcome)
    if answer is None or row is None:
        return
    if row.state == "attached":
        for other in net.attached_to(row.attachment):
            book.end(net, other, "quarantined")
    elif row.held:
        book.end(net, row, "waiting" if row.state == "quarantined" and row.pinned else "free")
    assert net.shows(answer, row)
