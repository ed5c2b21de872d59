"""What is right for `pool.create`, `.resize`, `.update` and `.delete`, and for `network.update`."""

from collections.abc import Iterable

from broker.outcome import Deferred, Outcome, Refused
from schemas.fields import IPAddress
from schemas.message import Done
from schemas.network import NetworkUpdate
from schemas.pool import AddressRange, PoolChange, PoolCreate, PoolDelete, PoolResize, PoolUpdate, PoolView
from tests.promised.book import Book, Reasons
from tests.promised.state import Net, Pool

SETTINGS = ("owners", "cooldown_s", "retain_s", "allow_mac")


def spread(ranges: Iterable[AddressRange]) -> list[IPAddress]:
    return [span.first + i for span in ranges for i in range(int(span.last) - int(span.first) + 1)]


def _sizes(net: Net, name: str) -> set[int]:
    return {len(net.of_pool(name, family)) for family in net.families}


def _unheld(net: Net, family: int) -> set[IPAddress]:
    spare = net.of_pool("default", family)
    return set(spare) - set(net.held(spare))


def create(book: Book, r: PoolCreate, outcome: Outcome) -> None:
    net, why = book.networks[r.network], Reasons()
    existing = net.pools.get(r.pool)
    if existing is not None:
        if not _is_same(net, r, existing):
            why.add("pool_exists")
        elif r.size is not None and _sizes(net, r.pool) != {r.size}:
            why.may.add("pool_exists")  # the network has gained a family since
        _check_view(net, existing, why.settle(outcome))
        return
    wanted = spread(r.ranges)
    _check_spare(net, wanted, why)
    if r.size is not None and any(len(_unheld(net, family)) < r.size for family in net.families):
        why.add("exhausted")
    answer = why.settle(outcome)
    if answer is None:
        return
    pool = Pool(r.pool, r.policy, version=answer.version, **{name: getattr(r, name) for name in SETTINGS})
    given = spread(answer.ranges)
    for family in net.families:
        here = [address for address in given if address.version == family]
        if r.size is not None:
            assert len(here) == r.size
            assert set(here) <= _unheld(net, family)
    assert r.size is not None or set(given) == set(wanted)
    net.pools[r.pool] = pool
    net.where |= dict.fromkeys(given, r.pool)
    book.events.append((net.name, "pool.created", None, None, None, None, book.user))
    _check_view(net, pool, answer)


def _is_same(net: Net, r: PoolCreate, existing: Pool) -> bool:
    if existing.name == "default" or existing.policy != r.policy:
        return False
    if any(getattr(r, name) != getattr(existing, name) for name in SETTINGS):
        return False
    if r.size is None:
        return set(spread(r.ranges)) == set(net.of_pool(r.pool))
    return r.size in _sizes(net, r.pool) <= {0, r.size}


def _check_spare(net: Net, wanted: list[IPAddress], why: Reasons) -> None:
    if any(net.where.get(address) != "default" for address in wanted):
        why.add("range_invalid")
    if net.held(wanted):
        why.add("range_in_use")


def _check_view(net: Net, pool: Pool, view: PoolView | None) -> None:
    if view is None:
        return
    addresses = net.of_pool(pool.name)
    assert (view.network, view.pool, view.policy) == (net.name, pool.name, pool.policy)
    assert all(getattr(view, name) == getattr(pool, name) for name in SETTINGS)
    assert sorted(map(str, spread(view.ranges))) == sorted(map(str, addresses))
    assert (view.total, view.used) == (len(addresses), len(net.held(addresses)))
    assert view.version == pool.version


def _changeable(net: Net, r: PoolChange, why: Reasons) -> Pool | None:
    pool = net.pools.get(r.pool)
    if pool is None:
        why.add("pool_unknown")
    elif r.expected_version not in (None, pool.version):
        why.add("version_conflict")
    return pool


def resize(book: Book, r: PoolResize, outcome: Outcome) -> None:
    net, why = book.networks[r.network], Reasons()
    pool = _changeable(net, r, why)
    if r.pool == "default":
        why.add("pool_unsuitable")
    add, remove = spread(r.add), spread(r.remove)
    if r.size is not None and pool is not None:
        remove = _over(net, pool, r.size, why)
    else:
        _check_spare(net, add, why)
        if any(net.where.get(address) != r.pool for address in remove):
            why.add("range_invalid")
    if net.held(remove):
        why.add("range_in_use")
    answer = why.settle(outcome)
    if answer is None or pool is None:
        return
    if r.size is not None:
        add = [address for address in spread(answer.ranges) if net.where[address] != pool.name]
        assert all(address in _unheld(net, address.version) for address in add)
    net.where |= dict.fromkeys(remove, "default") | dict.fromkeys(add, pool.name)
    assert r.size is None or _sizes(net, pool.name) == {r.size}
    _changed(book, net, pool, answer, "pool.resized")


def _over(net: Net, pool: Pool, size: int, why: Reasons) -> list[IPAddress]:
    """What has to go for so many addresses of each family: the highest. Adds why there cannot be more."""
    over: list[IPAddress] = []
    for family in net.families:
        has = sorted(net.of_pool(pool.name, family), key=int)
        over += has[size:]
        if len(_unheld(net, family)) < size - len(has):
            why.add("exhausted")
    return over


def _changed(book: Book, net: Net, pool: Pool, answer: PoolView, event: str) -> None:
    assert answer.version > pool.version
    pool.version = answer.version
    book.events.append((net.name, event, None, None, None, None, book.user))
    _check_view(net, pool, answer)


def update(book: Book, r: PoolUpdate, outcome: Outcome) -> None:
    net, why = book.networks[r.network], Reasons()
    pool = _changeable(net, r, why)
    if r.pool == "default" and (r.owners or r.retain_s):
        why.add("pool_unsuitable")
    if pool is not None and pool.policy != "pinned" and r.retain_s:
        why.add("pool_unsuitable")
    answer = why.settle(outcome)
    if answer is None or pool is None:
        return
    for name in SETTINGS:
        value = getattr(r, name)
        if value is not None:
            setattr(pool, name, (value or None) if name == "retain_s" else value)
    _changed(book, net, pool, answer, "pool.updated")


def delete(book: Book, r: PoolDelete, outcome: Outcome) -> None:
    net, why = book.networks[r.network], Reasons()
    _changeable(net, r, why)
    if r.pool == "default":
        why.add("pool_unsuitable")
    addresses = net.of_pool(r.pool)
    if net.held(addresses):
        why.add("pool_in_use")
    if why.settle(outcome) is None:
        return
    assert why.settle(outcome) == Done()
    net.where |= dict.fromkeys(addresses, "default")
    del net.pools[r.pool]
    book.events.append((net.name, "pool.deleted", None, None, None, None, book.user))


def network_update(book: Book, r: NetworkUpdate, outcome: Outcome) -> None:
    """New addresses can be given out at once."""
    net = book.networks[r.network]
    cidrs = [subnet.cidr for subnet in (*net.subnets, *r.add_subnets)]
    clash = any(
        one.overlaps(other)
        for i, one in enumerate(cidrs)
        for other in cidrs[i + 1 :]
        if one.version == other.version
    )
    if clash:
        assert isinstance(outcome, Refused)
        assert outcome.error.code == "subnet_conflict"
        return
    assert isinstance(outcome, Deferred), outcome
    for subnet in r.add_subnets:
        net.add_subnet(subnet)
    if r.owners is not None:
        net.owners = r.owners
    book.events.append((net.name, "network.updated", None, None, None, None, book.user))
