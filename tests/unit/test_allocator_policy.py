"""What the allocator decides of an allocate, without a database."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from uuid import uuid4

import pytest

from allocator.admission import choose_pool
from allocator.ledger import Ledger
from allocator.model import Allocation, Network, Pool
from allocator.policy import Attach, NoneFree, Repeat, Scene, attached_rows, decide_allocate
from allocator.supply import Place, Supply
from schemas.address import AddressAllocate
from schemas.errors import ServiceError
from schemas.network import NetworkDefinition

NOW = datetime(2026, 1, 2)

DEFAULT = Pool(id=1, name="default", policy="shared", owners=(), cooldown_s=120)
WEB = Pool(id=2, name="web", policy="pinned", owners=("shop/web-*",), cooldown_s=120)
SHOP = Pool(id=3, name="shop", policy="shared", owners=("shop/*",), cooldown_s=120)
LAB = Pool(id=4, name="lab", policy="reserved", owners=(), cooldown_s=120)
PROD = Network(
    id=1,
    name="prod",
    state="active",
    version=7,
    definition=NetworkDefinition.model_validate({"subnets": [{"cidr": "10.1.0.0/24"}]}),
    pools=(DEFAULT, WEB, SHOP, LAB),
)
OLD, NEW = uuid4(), uuid4()


def ask(**fields: object) -> AddressAllocate:
    body = {
        "network": "prod",
        "owner": "shop/web-0",
        "node": "n1",
        "container_id": "c1",
        "ifname": "eth0",
        "attachment_id": NEW,
    }
    return AddressAllocate.model_validate(body | fields)


def row(**fields: object) -> Allocation:
    base = Allocation(
        id=1,
        range_id=1,
        pool_id=2,
        network_id=1,
        address=ip_address("10.1.0.10"),
        state="attached",
        since=datetime(2026, 1, 1),
        owner="shop/web-0",
        pinned_owner="shop/web-0",
        ifname="eth0",
        mac="0a:58:0a:01:00:0a",
        node="n1",
        container_id="c1",
        attachment_id=NEW,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def scene(rows: Iterable[Allocation] = (), network: Network = PROD) -> Scene:
    ledger = Ledger()
    ledger.load(rows)
    return Scene(network, ledger, NOW)


def decide(request: AddressAllocate, rows: Iterable[Allocation], network: Network = PROD) -> Repeat | Attach:
    return decide_allocate(request, scene(rows, network))


def refusal(request: AddressAllocate, rows: Iterable[Allocation], network: Network = PROD) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        decide(request, rows, network)
    return caught.value


def test_a_repeated_allocate_gives_what_the_attachment_has():
    assert decide(ask(), [row()]) == Repeat((row(),))


def test_a_repeat_is_answered_even_while_the_network_goes():
    leaving = replace(PROD, state="deleting")
    assert isinstance(decide(ask(), [row()], leaving), Repeat)


@pytest.mark.parametrize("field", ["owner", "node", "container_id", "ifname"])
def test_an_attachment_id_belongs_to_one_attachment(field: str):
    stranger = row(**{field: "other"})
    assert refusal(ask(), [stranger]).code == "attachment_conflict"


def test_a_late_allocate_after_its_release_is_dropped():
    late = scene()
    late.ledger.ended.add(NEW)
    with pytest.raises(ServiceError) as caught:
        decide_allocate(ask(), late)
    assert caught.value.code == "attachment_released"


@pytest.mark.parametrize("state", ["creating", "deleting", "failed"])
def test_nobody_joins_a_network_that_is_not_active(state: str):
    error = refusal(ask(), [], replace(PROD, state=state))
    assert (error.code, error.retryable) == ("network_not_ready", True)


def test_the_network_decides_who_may_join():
    definition = PROD.definition.model_copy(update={"owners": ("bank/*",)})
    error = refusal(ask(), [], replace(PROD, definition=definition))
    assert error.code == "owner_forbidden"
    assert "bank/*" in error.message


def test_a_waiting_owner_comes_back_to_its_address():
    waiting = row(state="waiting", node=None, container_id=None, attachment_id=None)
    decision = decide(ask(node="n2"), [waiting])
    assert isinstance(decision, Attach)
    assert (decision.pool, [place.row for place in decision.places]) == (WEB, [waiting])
    assert (decision.mac, decision.replaces) == (waiting.mac, ())


def test_a_new_sandbox_on_the_same_node_takes_the_address_over():
    old = row(attachment_id=OLD, container_id="c0")
    decision = decide(ask(), [old])
    assert isinstance(decision, Attach)
    assert decision.replaces == (OLD,)


def test_an_owner_attached_on_another_node_has_to_wait():
    error = refusal(ask(node="n2"), [row(attachment_id=OLD)])
    assert (error.code, error.retryable, error.fields["node"]) == ("owner_attached_elsewhere", True, "n1")


def test_a_pinned_owner_does_not_get_a_second_address_from_another_pool():
    waiting = row(state="waiting", attachment_id=None)
    assert refusal(ask(pool="shop"), [waiting]).code == "owner_pinned"


def test_a_pool_that_no_longer_allows_its_owner_refuses_it():
    closed = replace(PROD, pools=(DEFAULT, replace(WEB, owners=("bank/*",))))
    assert refusal(ask(), [row(state="waiting", attachment_id=None)], closed).code == "owner_forbidden"


@pytest.mark.parametrize("rows", [[], [row(state="waiting", attachment_id=None)]])
def test_an_address_of_a_family_that_the_network_lacks_is_not_passed_over(rows: list[Allocation]):
    error = refusal(ask(addresses=["fd00:1::1"]), rows)
    assert (error.code, error.fields["address"]) == ("address_unknown", "fd00:1::1")


def test_a_missing_family_is_added_to_a_pinned_owner():
    dual = {"subnets": [{"cidr": "10.1.0.0/24"}, {"cidr": "fd00:1::/64"}]}
    network = replace(PROD, definition=NetworkDefinition.model_validate(dual))
    supplied = scene([row(state="waiting", attachment_id=None)], network)
    supplied.ledger.offer(WEB.id, 6, Supply(fresh=deque([Place(1, ip_address("fd00:1::7"), WEB.id, 5)])))
    decision = decide_allocate(ask(), supplied)
    assert isinstance(decision, Attach)
    assert [str(place.address) for place in decision.places] == ["10.1.0.10", "fd00:1::7"]


@pytest.mark.parametrize(
    ("owner", "wanted", "expected"),
    [
        ("shop/web-0", None, "web"),
        ("shop/cart-1", None, "shop"),
        ("bank/api-0", None, "default"),
        ("shop/web-0", "shop", "shop"),
        ("shop/web-0", "default", "default"),
    ],
)
def test_the_pool_is_the_one_named_or_the_closest(owner: str, wanted: str | None, expected: str):
    assert choose_pool(PROD.pools, owner, wanted).name == expected


@pytest.mark.parametrize(
    ("wanted", "code"), [("web", "owner_forbidden"), ("nope", "pool_unknown"), ("lab", "pool_unsuitable")]
)
def test_a_pool_that_cannot_be_used_is_refused(wanted: str, code: str):
    with pytest.raises(ServiceError) as caught:
        choose_pool(PROD.pools, "bank/api-0", wanted)
    assert caught.value.code == code


def free(address: str, minutes: float, owner: str = "shop/cart-9", pool: Pool = SHOP) -> Allocation:
    """A row of `pool` that is free since so many minutes."""
    return row(
        id=int(ip_address(address)),
        address=ip_address(address),
        pool_id=pool.id,
        state="free",
        owner=owner,
        pinned_owner=None,
        mac=None,
        node=None,
        container_id=None,
        attachment_id=None,
        since=NOW - timedelta(minutes=minutes),
    )


def fresh(address: str, pool: Pool) -> Place:
    return Place(1, ip_address(address), pool.id, 1, None, True, ip_address(address) + 1)


def picked(pool: Pool, rows: list[Allocation], places: list[Place], owner: str = "shop/cart-1") -> str | None:
    known = scene(row for row in rows if row.owner == owner)
    known.ledger.offer(pool.id, 4, Supply(deque(rows), deque(places)))
    try:
        decision = decide_allocate(ask(owner=owner, pool=pool.name), known)
    except NoneFree:
        return None
    assert isinstance(decision, Attach)
    return str(decision.places[0].address)


def test_the_longest_free_goes_first_then_the_never_used_then_the_cooling():
    cooled, cooling, new = free("10.1.0.9", 60), free("10.1.0.8", 1), fresh("10.1.0.50", SHOP)
    assert picked(SHOP, [cooled, cooling], [new]) == "10.1.0.9"
    assert picked(SHOP, [cooling], [new]) == "10.1.0.50"
    assert picked(SHOP, [cooling], []) == "10.1.0.8"


def test_cooldown_is_a_wall_where_everybody_may_come():
    cooling = free("10.1.0.8", 1, pool=DEFAULT)
    assert picked(DEFAULT, [cooling], [], owner="bank/api-0") is None


def test_cooldown_is_never_against_the_owners_own_address():
    own = free("10.1.0.8", 1, owner="bank/api-0", pool=DEFAULT)
    assert picked(DEFAULT, [own], [fresh("10.1.0.50", DEFAULT)], owner="bank/api-0") == "10.1.0.8"


def test_requests_of_one_batch_see_what_those_before_them_took():
    known = scene()
    new = [fresh("10.1.0.50", SHOP), fresh("10.1.0.51", SHOP)]
    known.ledger.offer(SHOP.id, 4, Supply(deque([free("10.1.0.9", 60)]), deque(new)))
    given = []
    for number in range(3):
        request = ask(owner=f"shop/cart-{number}", attachment_id=uuid4())
        decision = decide_allocate(request, known)
        assert isinstance(decision, Attach)
        for taken, place in zip(attached_rows(request, decision, PROD, NOW), decision.places, strict=True):
            known.ledger.put(taken, place)
            given.append(str(taken.address))
    assert given == ["10.1.0.9", "10.1.0.50", "10.1.0.51"]
    with pytest.raises(NoneFree):
        decide_allocate(ask(owner="shop/cart-9", attachment_id=uuid4()), known)
    (change,) = known.ledger.ranges()
    assert (change.used, str(change.cursor)) == (3, "10.1.0.52")
