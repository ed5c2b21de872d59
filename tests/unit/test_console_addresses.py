"""`moorage address`: what is asked, and how the answers read."""

from datetime import UTC, datetime
from ipaddress import ip_address
from uuid import UUID

import pytest

from schemas.address import (
    AddressList,
    AddressPage,
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressShow,
    AddressView,
    OwnerAddresses,
)
from schemas.errors import Code, ServiceError
from tests.console_fakes import ACTOR, CTRL_C, FakeAllocator, document, run, run_at_a_terminal, table

ATTACHMENT = UUID("0b8f7a52-6c1e-4a5e-9a65-0f2a4e4f0a11")
AT = datetime(2026, 3, 1, 14, 5, 33, 987654, UTC)
ADDRESS = AddressView(
    network="prod",
    pool="web",
    policy="pinned",
    address="10.20.0.10",
    state="attached",
    since=AT,
    owner="shop/web-0",
    mac="0a:58:0a:14:00:0a",
    ifname="eth0",
    node="node-1",
    container_id="c1",
    attachment_id=ATTACHMENT,
)


def test_address_list_asks_with_its_filters_and_shows_all_columns_in_a_pipe():
    allocator = FakeAllocator({AddressList: lambda _: AddressPage(addresses=[ADDRESS])})
    result = run(
        allocator,
        *("address", "list", "prod", "--pool", "web", "--owner", "shop/web-0"),
        *("--node", "node-1", "--state", "attached"),
    )
    assert allocator.asked == [
        AddressList(network="prod", pool="web", owner="shop/web-0", node="node-1", state="attached")
    ]
    assert table(result)[1] == [
        *("10.20.0.10", "attached", "shop/web-0", "node-1", "2026-03-01T14:05:33Z", "web", "pinned"),
        *("0a:58:0a:14:00:0a", "eth0", "c1", str(ATTACHMENT)),
    ]


def test_an_address_list_without_a_match_says_so():
    allocator = FakeAllocator({AddressList: lambda _: AddressPage(addresses=())})
    result = run(allocator, "address", "list", "prod")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No address matches" in result.stderr


def test_address_show_tells_who_has_it_and_since_when():
    allocator = FakeAllocator({AddressShow: lambda _: ADDRESS})
    lines = table(run(allocator, "address", "show", "prod", "10.20.0.10"))
    assert allocator.asked == [AddressShow(network="prod", address="10.20.0.10")]
    assert ["owner", "shop/web-0"] in lines
    assert ["pool", "web (pinned)"] in lines
    assert ["since", "2026-03-01T14:05:33Z"] in lines
    shown = document(run(allocator, "address", "show", "prod", "10.20.0.10", "-o", "json"))
    assert AddressView.model_validate(shown) == ADDRESS


def test_an_address_that_cannot_be_read_is_refused_before_anything_is_asked():
    allocator = FakeAllocator({AddressShow: lambda _: ADDRESS})
    result = run(allocator, "address", "show", "prod", "10.20.0.300")
    assert result.exit_code == 2
    assert allocator.asked == []


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2026-03-01T14:05:33", datetime(2026, 3, 1, 14, 5, 33, tzinfo=UTC)),
        ("2026-03-01T16:05:33+02:00", datetime(2026, 3, 1, 14, 5, 33, tzinfo=UTC)),
    ],
)
def test_address_show_may_look_at_another_time(text, means):
    allocator = FakeAllocator({AddressShow: lambda _: ADDRESS})
    run(allocator, "address", "show", "prod", "10.20.0.10", "--at", text)
    assert allocator.asked == [AddressShow(network="prod", address="10.20.0.10", at=means)]


def test_a_time_to_look_at_that_cannot_be_read_names_the_option():
    allocator = FakeAllocator({AddressShow: lambda _: ADDRESS})
    result = run(allocator, "address", "show", "prod", "10.20.0.10", "--at", "noon")
    assert result.exit_code == 2
    assert "--at noon: write a date and time" in result.stderr
    assert allocator.asked == []


WAITING = ADDRESS.model_copy(
    update={"state": "waiting", "node": None, "container_id": None, "attachment_id": None}
)
BOTH = OwnerAddresses(addresses=[WAITING, WAITING.model_copy(update={"address": ip_address("fd00:20::a")})])
OWNER = {"network": "prod", "owner": "shop/web-0"}
ATTEMPT = {"request_id": "a", "actor": ACTOR}


def pin(command: str, *options: str, answer: object = BOTH) -> tuple[FakeAllocator, object]:
    allocator = FakeAllocator({AddressReserve: lambda _: answer, AddressRebind: lambda _: answer})
    return allocator, run(allocator, "address", command, "prod", "shop/web-0", *options, "--request-id", "a")


def test_reserve_asks_for_what_the_options_say_and_shows_what_is_pinned():
    allocator, result = pin(
        *("reserve", "--address", "10.20.0.10", "--address", "fd00:20::a", "--pool", "web"),
        *("--ifname", "net1"),
    )
    assert allocator.asked == [
        AddressReserve(**OWNER, **ATTEMPT, ifname="net1", pool="web", addresses=["10.20.0.10", "fd00:20::a"])
    ]
    assert [line[:3] for line in table(result)] == [
        ["ADDRESS", "STATE", "OWNER"],
        ["10.20.0.10", "waiting", "shop/web-0"],
        ["fd00:20::a", "waiting", "shop/web-0"],
    ]
    assert (result.exit_code, result.stderr) == (0, "")


def test_reserve_leaves_the_rest_to_the_defaults_of_the_request():
    allocator, result = pin("reserve", "-o", "json")
    assert allocator.asked == [AddressReserve(**OWNER, **ATTEMPT)]
    assert OwnerAddresses.model_validate(document(result)) == BOTH


def test_rebind_asks_for_what_the_options_say_and_says_when_the_pod_moves():
    allocator, result = pin("rebind", "--address", "10.20.0.10", "--address", "fd00:20::a")
    assert allocator.asked == [AddressRebind(**OWNER, **ATTEMPT, addresses=["10.20.0.10", "fd00:20::a"])]
    assert [line[0] for line in table(result)] == ["ADDRESS", "10.20.0.10", "fd00:20::a"]
    assert result.stderr == "If a pod of shop/web-0 is running, it keeps its address until it is deleted.\n"


def test_rebind_of_an_owner_that_is_seen_running_says_where():
    moved = OwnerAddresses(
        addresses=[WAITING, ADDRESS.model_copy(update={"address": ip_address("10.20.0.9")})]
    )
    _, result = pin("rebind", "--address", "10.20.0.10", "--ifname", "net1", "-o", "json", answer=moved)
    assert "shop/web-0 is running on node-1: its pod keeps its address until it is deleted" in result.stderr
    assert OwnerAddresses.model_validate(document(result)) == moved


@pytest.mark.parametrize("command", ["reserve", "rebind"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--address", "10.20.0.10", "--address", "10.20.0.11"), "at most one address of each family"),
        (("--address", "10.20.0.300"), "addresses.0: '10.20.0.300' is not an IPv4 or IPv6 address"),
        (("--address", "10.20.0.10", "--ifname", "a/b"), "ifname: must be an interface name"),
    ],
)
def test_what_no_owner_can_be_pinned_to_is_refused_before_anything_is_asked(command, options, said):
    allocator, result = pin(command, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert allocator.asked == []


def test_an_owner_that_cannot_be_is_refused_before_anything_is_asked():
    allocator = FakeAllocator({})
    result = run(allocator, "address", "reserve", "prod", "web-0")
    assert result.exit_code == 2
    assert "owner: must be an owner such as shop/web-0" in result.stderr


def test_rebind_needs_an_address_to_go_to():
    assert pin("rebind")[1].exit_code == 2


@pytest.mark.parametrize("command", ["reserve", "rebind"])
def test_an_address_that_somebody_has_is_a_refusal(command):
    error = ServiceError(Code.ADDRESS_IN_USE, "10.20.0.10 is shop/web-1's: choose another")
    _, result = pin(command, "--address", "10.20.0.10", answer=error)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: 10.20.0.10 is shop/web-1's: choose another (address_in_use)\n"


RELEASE = ("address", "release", "prod", "10.20.0.10", "--reason", "web-0 is gone for good")
RELEASED = {"network": "prod", "address": "10.20.0.10", "reason": "web-0 is gone for good"}
FREE = WAITING.model_copy(update={"state": "free", "owner": None})
WITHHELD = FREE.model_copy(update={"state": "quarantined"})


def releasing(seen: AddressView = WAITING, after: object = FREE) -> FakeAllocator:
    return FakeAllocator({AddressShow: lambda _: seen, AddressReleaseByOperator: lambda _: after})


def test_release_with_yes_asks_for_what_the_options_say_and_nobody():
    allocator = releasing()
    result = run(
        allocator, *RELEASE, "--expected-owner", "shop/web-0", "--force", "--yes", "--request-id", "a"
    )
    assert allocator.asked == [
        AddressReleaseByOperator(**RELEASED, **ATTEMPT, expected_owner="shop/web-0", force=True)
    ]
    assert ["state", "free"] in table(result)
    assert (result.exit_code, result.stderr) == (0, "")


def test_release_gives_the_answers_own_json():
    assert AddressView.model_validate(document(run(releasing(), *RELEASE, "-y", "-o", "json"))) == FREE


def test_release_needs_a_reason():
    assert run(releasing(), *RELEASE[:-2], "--yes").exit_code == 2
    result = run(releasing(), *RELEASE[:-1], "", "--yes")
    assert result.exit_code == 2
    assert "reason: String should have at least 1 character" in result.stderr


def test_release_without_a_terminal_needs_yes():
    allocator = releasing()
    result = run(allocator, *RELEASE)
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert allocator.asked == []


def test_release_at_a_terminal_shows_who_has_the_address_and_takes_it_only_from_that_owner():
    allocator = releasing()
    result = run_at_a_terminal(allocator, "y\n", *RELEASE, "--request-id", "a", "-o", "json")
    assert result.exit_code == 0
    assert ["owner", "shop/web-0"] in [line.split() for line in result.stderr.splitlines()]
    assert "Its next pod will get another address. Take 10.20.0.10 from shop/web-0? [y/N]" in result.stderr
    assert allocator.asked == [
        AddressShow(network="prod", address="10.20.0.10"),
        AddressReleaseByOperator(**RELEASED, **ATTEMPT, expected_owner="shop/web-0"),
    ]
    assert AddressView.model_validate(document(result)) == FREE


def test_an_owner_that_was_named_stays_the_one_that_is_expected():
    allocator = releasing()
    run_at_a_terminal(allocator, "y\n", *RELEASE, "--expected-owner", "shop/web-7")
    assert allocator.asked[1].expected_owner == "shop/web-7"


@pytest.mark.parametrize("typed", ["n\n", "\n", "", CTRL_C])
def test_release_at_a_terminal_changes_nothing_without_a_yes(typed):
    allocator = releasing()
    result = run_at_a_terminal(allocator, typed, *RELEASE)
    assert result.exit_code == 1
    assert [type(request) for request in allocator.asked] == [AddressShow]


@pytest.mark.parametrize(
    ("seen", "options", "asked"),
    [
        (ADDRESS, ("--force",), "Nothing checks that the pod of shop/web-0 on node-1 is gone. Take"),
        (ADDRESS, (), "Release 10.20.0.10?"),
        (FREE, ("--force",), "Release 10.20.0.10?"),
        (
            FREE.model_copy(update={"state": "quarantined"}),
            (),
            "If somebody still uses 10.20.0.10, two will.",
        ),
    ],
)
def test_the_question_says_what_releasing_such_an_address_means(seen, options, asked):
    result = run_at_a_terminal(releasing(seen), "y\n", *RELEASE, *options)
    assert result.exit_code == 0
    assert asked in result.stderr


def test_an_address_that_is_withheld_after_its_release_says_how_it_becomes_free():
    result = run(releasing(after=WITHHELD), *RELEASE, "--force", "--yes")
    assert result.exit_code == 0
    assert "10.20.0.10 is withheld: once its pod is certain to be gone, release it" in result.stderr


def test_a_release_of_unknown_outcome_is_repeated_for_the_owner_that_was_seen():
    allocator = releasing(after=ServiceError(Code.TIMEOUT, "nobody answered"))
    result = run_at_a_terminal(allocator, "y\n", *RELEASE, "--request-id", "a")
    assert result.exit_code == 3
    assert "again with --request-id a --expected-owner shop/web-0: however often" in result.stderr


def test_an_attached_address_is_a_refusal():
    error = ServiceError(Code.ADDRESS_IN_USE, "10.20.0.10 is attached: delete its pod")
    result = run(releasing(after=error), *RELEASE, "--yes")
    assert result.exit_code == 1
    assert "(address_in_use)" in result.stderr
