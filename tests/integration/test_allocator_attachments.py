"""What a node says it has, against what the database says: stale, unknown, adopted, left over."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine

from allocator.restoring import declare_restored, resume
from schemas.address import AddressReleaseByOperator, AddressReserve
from schemas.node import DesiredPage, NodeAttachment, NodeFence, NodeSync
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod with a pinned and a reserved pool."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24", owners=["shop/*", "bank/*"])
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    made.pool("lab", "10.1.0.30-10.1.0.31", policy="reserved")
    return made


@pytest.fixture
def dual(engine: Engine) -> Asked:
    """A dual-stack network prod."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24", "fd00:1::/64")
    return made


def known_to_node(owner: str, *addresses: str, **fields: Any) -> NodeAttachment:
    """An attachment as a node's journal has it, and the database has not."""
    body = {"attachment_id": uuid4(), "network": "prod", "owner": owner, "ifname": "eth0"}
    mac = "0a:58:" + ":".join(f"{int(part):02x}" for part in addresses[0].split("."))
    body |= {"container_id": uuid4().hex, "addresses": addresses, "mac": mac}
    return NodeAttachment.model_validate(body | fields)


def sync(
    asked: Asked, node: str, *details: NodeAttachment, attachments: tuple[UUID, ...] | None = None
) -> DesiredPage:
    named = attachments or tuple(item.attachment_id for item in details)
    request = NodeSync(node=node, session=asked.sessions[node], attachments=named, details=details)
    answer = asked.reply(request)
    assert isinstance(answer, DesiredPage)
    return answer


def held(asked: Asked) -> dict[str, str]:
    asked.check_used()
    return {str(row.address): f"{row.state} {row.owner} {row.node}" for row in asked.addresses()}


def attach_again(asked: Asked, item: NodeAttachment, node: str) -> Any:
    """The answer of an allocate that the node repeats for this attachment."""
    body = {"container_id": item.container_id, "attachment_id": item.attachment_id}
    return asked.reply(asked.ask(item.owner, node, **body))


# Stale and unknown.


def test_what_the_database_has_on_the_node_is_neither_stale_nor_unknown(asked: Asked):
    held_here = asked.attach("shop/web-0", "n1")
    page = sync(asked, "n1", attachments=(held_here.attachment_id,))
    assert (page.stale, page.unknown, page.leftover) == ((), (), ())


def test_what_ended_otherwise_is_stale(asked: Asked):
    released = asked.attach("shop/web-0", "n1")
    asked.release(released.attachment_id)
    replaced = asked.attach("shop/web-1", "n1")
    asked.attach("shop/web-1", "n1")
    forced = asked.attach("shop/web-2", "n1")
    asked.reply(asked.make(AddressReleaseByOperator, address=only(forced), reason="x", force=True))
    early = uuid4()
    asked.release(early)
    elsewhere = asked.attach("shop/web-3", "n2")
    ended = {item.attachment_id for item in (released, replaced, forced, elsewhere)} | {early}
    page = sync(asked, "n1", attachments=(*ended,))
    assert (set(page.stale), page.unknown) == (ended, ())


def test_what_nobody_knows_is_unknown_until_the_node_tells_more(asked: Asked):
    stranger = uuid4()
    page = sync(asked, "n1", attachments=(stranger,))
    assert (page.stale, page.unknown) == ((), (stranger,))
    assert held(asked) == {}


def test_a_sync_that_does_not_ask_about_attachments_is_told_nothing_about_them(asked: Asked):
    asked.attach("shop/web-0", "n1")
    page = asked.reply(NodeSync(node="n1", session=asked.sessions["n1"]))
    assert (page.stale, page.unknown, page.leftover) == ((), (), ())


# Flagged: the database was not restored, so nobody may have what it does not know.


def test_the_free_addresses_of_an_unknown_attachment_are_withheld_and_history_says_of_whom(asked: Asked):
    item = known_to_node("shop/web-0", "10.1.0.15")
    page = sync(asked, "n1", item)
    assert (page.stale, page.unknown) == ((), (item.attachment_id,))
    assert held(asked) == {"10.1.0.15": "quarantined shop/web-0 None"}
    (row,) = asked.history(address="10.1.0.15")
    assert (row.event, row.owner, row.node, row.container_id, row.attachment_id) == (
        "address.quarantined",
        "shop/web-0",
        "n1",
        item.container_id,
        None,
    )
    assert row.details["attachment"] == str(item.attachment_id)
    error = asked.refusal(asked.ask("shop/web-1", addresses=["10.1.0.15"]))
    assert error.code == "address_quarantined"


def test_an_unknown_attachment_is_flagged_once_and_never_called_stale(asked: Asked):
    item = known_to_node("shop/web-0", "10.1.0.15")
    for _ in range(3):
        page = sync(asked, "n1", item)
        assert (page.stale, page.unknown) == ((), (item.attachment_id,))
    assert len(asked.history(address="10.1.0.15")) == 1


def test_an_address_that_was_used_before_is_withheld_too(asked: Asked):
    gone = asked.attach("bank/api-0", addresses=["10.1.0.50"])
    asked.release(gone.attachment_id)
    sync(asked, "n1", known_to_node("bank/api-9", "10.1.0.50"))
    assert held(asked) == {"10.1.0.50": "quarantined bank/api-9 None"}
    release = asked.make(AddressReleaseByOperator, address="10.1.0.50", reason="pod deleted")
    assert asked.reply(release).state == "free"
    assert held(asked) == {"10.1.0.50": "free bank/api-9 None"}


def test_an_address_that_somebody_holds_stays_his(asked: Asked):
    asked.attach("shop/web-0", "n2", addresses=["10.1.0.10"])
    asked.reply(asked.make(AddressReserve, owner="shop/web-1", addresses=["10.1.0.11"]))
    before, told = held(asked), len(asked.history())
    sync(asked, "n1", known_to_node("shop/web-5", "10.1.0.10"), known_to_node("shop/web-6", "10.1.0.11"))
    assert held(asked) == before
    assert len(asked.history()) == told


@pytest.mark.parametrize(
    "fields", [{"network": "nowhere"}, {"addresses": ["10.9.0.1"]}, {"addresses": ["10.1.0.0"]}]
)
def test_an_address_that_nobody_could_get_is_passed_over(asked: Asked, fields: dict):
    page = sync(asked, "n1", known_to_node("shop/web-0", "10.1.0.15", **fields))
    assert len(page.unknown) == 1
    assert held(asked) == {}


def test_what_is_stale_is_not_flagged(asked: Asked):
    gone = asked.attach("shop/web-0", "n1")
    asked.release(gone.attachment_id)
    page = sync(asked, "n1", known_to_node("shop/web-0", only(gone), attachment_id=gone.attachment_id))
    assert page.stale == (gone.attachment_id,)
    assert held(asked) == {only(gone): "waiting shop/web-0 None"}


# Adopted: after a restore, under the checks that an allocate would meet.


def test_after_a_restore_an_unknown_attachment_is_adopted_with_its_mac(asked: Asked, engine: Engine):
    declare_restored(engine)
    item = known_to_node("shop/web-0", "10.1.0.15")
    page = sync(asked, "n1", item)
    assert (page.stale, page.unknown) == ((), ())
    (row,) = asked.addresses()
    assert (row.state, row.owner, row.node, row.attachment_id, row.mac) == (
        "attached",
        "shop/web-0",
        "n1",
        item.attachment_id,
        "0a:58:0a:01:00:0f",
    )
    assert [r.event for r in asked.history(address="10.1.0.15")] == ["address.adopted"]
    assert only(attach_again(asked, item, "n1")) == "10.1.0.15"
    assert sync(asked, "n1", item).unknown == ()
    assert asked.release(item.attachment_id) == ["10.1.0.15"]
    assert held(asked) == {"10.1.0.15": "waiting shop/web-0 None"}


def test_an_adopted_owner_is_the_owner_also_of_what_waits_cools_or_was_never_used(
    asked: Asked, engine: Engine
):
    asked.reply(asked.make(AddressReserve, owner="shop/web-1", addresses=["10.1.0.11"]))
    gone = asked.attach("bank/api-0", addresses=["10.1.0.50"])
    asked.release(gone.attachment_id)
    declare_restored(engine)
    items = [
        known_to_node("shop/web-1", "10.1.0.11"),
        known_to_node("bank/api-9", "10.1.0.50"),
        known_to_node("bank/api-8", "10.1.0.60"),
    ]
    assert sync(asked, "n1", *items).unknown == ()
    assert held(asked) == {
        "10.1.0.11": "attached shop/web-1 n1",
        "10.1.0.50": "attached bank/api-9 n1",
        "10.1.0.60": "attached bank/api-8 n1",
    }
    resume(engine)
    given = {only(asked.attach(f"bank/new-{number}")) for number in range(60)}
    assert not given & {"10.1.0.50", "10.1.0.60"}
    asked.check_used()


@pytest.mark.parametrize(
    ("owner", "address", "fields", "after"),
    [
        ("shop/web-5", "10.1.0.10", {}, None),  # attached to somebody
        ("shop/web-5", "10.1.0.11", {}, None),  # waits for somebody
        ("shop/web-0", "10.1.0.15", {}, "quarantined"),  # is attached under another id
        ("shop/web-1", "10.1.0.15", {}, "quarantined"),  # is pinned to another address
        ("evil/web-5", "10.1.0.15", {}, "quarantined"),  # not of this network
        ("bank/api-0", "10.1.0.15", {}, "quarantined"),  # not of this pool
        ("shop/web-5", "10.1.0.30", {}, "quarantined"),  # a reserved pool
        ("shop/web-5", "10.9.0.1", {}, None),  # not of this network
        ("shop/web-5", "10.1.0.15", {"mac": "0a:58:0a:01:00:0a"}, "quarantined"),  # another's MAC
        ("shop/web-5", "10.1.0.15", {"network": "nowhere"}, None),
    ],
)
def test_what_an_allocate_would_refuse_is_not_adopted_but_withheld_if_nobody_has_it(
    asked: Asked, engine: Engine, owner: str, address: str, fields: dict, after: str | None
):
    asked.attach("shop/web-0", "n2", addresses=["10.1.0.10"])
    asked.reply(asked.make(AddressReserve, owner="shop/web-1", addresses=["10.1.0.11"]))
    declare_restored(engine)
    before = held(asked)
    item = known_to_node(owner, address, **fields)
    assert sync(asked, "n1", item).unknown == (item.attachment_id,)
    expected = before if after is None else before | {address: f"{after} {owner} None"}
    assert held(asked) == expected


def test_of_two_nodes_with_one_address_the_first_is_believed(asked: Asked, engine: Engine):
    declare_restored(engine)
    one, other = known_to_node("bank/api-0", "10.1.0.50"), known_to_node("bank/api-1", "10.1.0.50")
    assert sync(asked, "n1", one).unknown == ()
    assert sync(asked, "n2", other).unknown == (other.attachment_id,)
    assert held(asked) == {"10.1.0.50": "attached bank/api-0 n1"}


def test_two_that_contradict_each_other_in_one_sync_do_not_spoil_the_others(asked: Asked, engine: Engine):
    declare_restored(engine)
    items = [
        known_to_node("shop/web-0", "10.1.0.10"),
        known_to_node("shop/web-0", "10.1.0.11"),
        known_to_node("shop/web-2", "10.1.0.10"),
        known_to_node("shop/web-3", "10.1.0.13"),
    ]
    page = sync(asked, "n1", *items)
    assert set(page.unknown) == {items[1].attachment_id, items[2].attachment_id}
    assert held(asked) == {
        "10.1.0.10": "attached shop/web-0 n1",
        "10.1.0.11": "quarantined shop/web-0 None",
        "10.1.0.13": "attached shop/web-3 n1",
    }


def test_both_families_are_adopted_or_none(dual: Asked, engine: Engine):
    dual.attach("bank/api-0", "n2", addresses=["fd00:1::9"])
    declare_restored(engine)
    whole = known_to_node("bank/api-1", "10.1.0.50", "fd00:1::50")
    half = known_to_node("bank/api-2", "10.1.0.60", "fd00:1::9")
    assert sync(dual, "n1", whole, half).unknown == (half.attachment_id,)
    assert held(dual) == {
        "10.1.0.1": "attached bank/api-0 n2",
        "fd00:1::9": "attached bank/api-0 n2",
        "10.1.0.50": "attached bank/api-1 n1",
        "fd00:1::50": "attached bank/api-1 n1",
        "10.1.0.60": "quarantined bank/api-2 None",
    }


def test_an_attachment_has_at_most_one_address_of_each_family():
    with pytest.raises(ValidationError, match="at most one address of each family"):
        known_to_node("bank/api-0", "10.1.0.50", "10.1.0.51")


def test_what_history_knows_to_have_ended_is_not_adopted(asked: Asked, engine: Engine):
    gone = asked.attach("shop/web-0", "n1")
    asked.release(gone.attachment_id)
    declare_restored(engine)
    item = known_to_node("shop/web-0", only(gone), attachment_id=gone.attachment_id)
    assert sync(asked, "n1", item).stale == (gone.attachment_id,)
    assert held(asked) == {only(gone): "waiting shop/web-0 None"}


def test_nothing_is_adopted_from_a_session_that_was_declared_off(asked: Asked, engine: Engine):
    asked.reply(asked.make(NodeFence, node="n1", session=asked.sessions["n1"], reason="off"))
    declare_restored(engine)
    item = known_to_node("shop/web-0", "10.1.0.15")
    assert sync(asked, "n1", item).stale == (item.attachment_id,)
    assert held(asked) == {}


def test_after_the_pause_nothing_is_adopted_any_more(asked: Asked, engine: Engine):
    declare_restored(engine)
    resume(engine)
    item = known_to_node("shop/web-0", "10.1.0.15")
    assert sync(asked, "n1", item).unknown == (item.attachment_id,)
    assert held(asked) == {"10.1.0.15": "quarantined shop/web-0 None"}


# Left over: the backup has it, the node has not.


def test_after_a_restore_a_node_is_told_what_it_does_not_have_any_more(asked: Asked, engine: Engine):
    kept, gone = asked.attach("shop/web-0", "n1"), asked.attach("shop/web-1", "n1", container_id="c7")
    asked.attach("shop/web-2", "n2")
    assert sync(asked, "n1", attachments=(kept.attachment_id,)).leftover == ()
    declare_restored(engine)
    (left,) = sync(asked, "n1", attachments=(kept.attachment_id,)).leftover
    assert (left.attachment_id, left.network, left.container_id, left.ifname) == (
        gone.attachment_id,
        "prod",
        "c7",
        "eth0",
    )
    assert asked.release(left.attachment_id) == [only(gone)]
    assert sync(asked, "n1", attachments=(kept.attachment_id,)).leftover == ()


def test_what_is_left_over_of_both_families_is_told_once(dual: Asked, engine: Engine):
    gone = dual.attach("bank/api-0", "n1")
    declare_restored(engine)
    page = sync(dual, "n1", attachments=(uuid4(),))
    assert [left.attachment_id for left in page.leftover] == [gone.attachment_id]


def test_what_the_same_sync_adopts_is_not_left_over(asked: Asked, engine: Engine):
    declare_restored(engine)
    page = sync(asked, "n1", known_to_node("shop/web-0", "10.1.0.15"))
    assert (page.unknown, page.leftover) == ((), ())
