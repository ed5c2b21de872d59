"""`moorage pool`: what is asked, and how the answers read."""

import pytest

from schemas.errors import Code, ServiceError
from schemas.message import Done
from schemas.pool import PoolCreate, PoolDelete, PoolList, PoolPage, PoolResize, PoolUpdate, PoolView
from tests.console_fakes import ACTOR, CTRL_C, FakeAllocator, document, run, run_at_a_terminal, table

VIEW = PoolView(
    network="prod",
    pool="web",
    policy="pinned",
    ranges=["10.20.0.10-10.20.0.20", "10.20.0.64/28"],
    range_count=2,
    owners=["shop/web-*"],
    cooldown_s=60,
    retain_s=2_592_000,
    allow_mac=True,
    version=4294967298,
    total=27,
    used=1,
)
HEAD = ["POOL", "POLICY", "RANGES", "USED", "OWNERS", "COOLDOWN", "RETAIN", "ALLOW MAC", "VERSION"]
ROW = [
    *("web", "pinned", "10.20.0.10-10.20.0.20, 10.20.0.64-10.20.0.79", "1 of 27", "shop/web-*"),
    *("1m", "30d", "yes", "4294967298"),
]
NAMED = {"network": "prod", "pool": "web"}
ATTEMPT = {"request_id": "a", "actor": ACTOR}
HOLDER = {"address": "10.20.0.10", "owner": "shop/web-0", "state": "waiting", "node": None}


def pool(*command: str) -> tuple[FakeAllocator, object]:
    answers = {PoolCreate: lambda _: VIEW, PoolResize: lambda _: VIEW, PoolUpdate: lambda _: VIEW}
    allocator = FakeAllocator({**answers, PoolDelete: lambda _: Done()})
    return allocator, run(allocator, "pool", *command)


def test_create_asks_for_what_the_options_say():
    allocator, result = pool(
        *("create", "prod", "web", "--policy", "pinned", "--allow-mac", "--retain", "30d"),
        *("--range", "10.20.0.10-10.20.0.20", "--range", "10.20.0.64/28", "--owner", "shop/web-*"),
        *("--cooldown", "1m", "--request-id", "a"),
    )
    assert allocator.asked == [
        PoolCreate(
            **NAMED,
            **ATTEMPT,
            policy="pinned",
            ranges=["10.20.0.10-10.20.0.20", "10.20.0.64/28"],
            owners=["shop/web-*"],
            cooldown_s=60,
            retain_s=2_592_000,
            allow_mac=True,
        )
    ]
    assert table(result) == [HEAD, ROW]


def test_create_leaves_the_rest_to_the_defaults_of_the_request():
    allocator, _ = pool("create", "prod", "web", "--policy", "shared", "--size", "40", "--request-id", "a")
    assert allocator.asked == [PoolCreate(**NAMED, **ATTEMPT, policy="shared", size=40)]


@pytest.mark.parametrize("span", ["10.20.0.20-10.20.0.10", "web", "10.20.0.1/28", "10.20.0.1-"])
@pytest.mark.parametrize(
    ("command", "option", "field"),
    [
        (("create", "prod", "web", "--policy", "shared"), "--range", "ranges.0"),
        (("resize", "prod", "web"), "--add", "add.0"),
        (("resize", "prod", "web"), "--remove", "remove.0"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused_before_anything_is_asked(command, option, field, span):
    allocator, result = pool(*command, option, span)
    assert result.exit_code == 2
    assert field in result.stderr
    assert allocator.asked == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--policy", "shared"), "name the ranges of the pool, or its size: one of the two"),
        (("--policy", "shared", "--size", "4", "--range", "10.20.0.1"), "one of the two"),
        (("--policy", "shared", "--size", "0"), "size: Input should be greater than or equal to 1"),
        (("--policy", "shared", "--size", "4", "--retain", "30d"), "in a shared pool no address waits"),
        (("--policy", "pinned", "--size", "4", "--retain", "0"), "--retain 0: write at least 1s"),
        (("--policy", "pinned", "--size", "4", "--retain", "a day"), "--retain a day: write a duration"),
        (("--policy", "pinned", "--size", "4", "--cooldown", "5x"), "--cooldown 5x: write a duration"),
        (("--policy", "pinned", "--size", "4", "--cooldown", "8d"), "cooldown_s: Input should be less"),
        (("--policy", "pinned", "--size", "4", "--owner", "Shop/*"), "must be a pattern of owners"),
    ],
)
def test_create_refuses_what_no_pool_can_be(options, said):
    allocator, result = pool("create", "prod", "web", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert allocator.asked == []


def test_create_gives_the_answers_own_json():
    _, result = pool("create", "prod", "web", "--policy", "shared", "--size", "4", "-o", "json")
    assert PoolView.model_validate(document(result)) == VIEW


def test_resize_by_ranges_asks_for_what_the_options_say():
    allocator, result = pool(
        *("resize", "prod", "web", "--add", "10.20.0.64/28", "--add", "10.20.0.90"),
        *("--remove", "10.20.0.21-10.20.0.30", "--expected-version", "7", "--request-id", "a"),
    )
    assert allocator.asked == [
        PoolResize(
            **NAMED,
            **ATTEMPT,
            expected_version=7,
            add=["10.20.0.64/28", "10.20.0.90"],
            remove=["10.20.0.21-10.20.0.30"],
        )
    ]
    assert table(result) == [HEAD, ROW]


def test_resize_by_size_names_no_ranges():
    allocator, result = pool("resize", "prod", "web", "--size", "40", "--request-id", "a", "-o", "json")
    assert allocator.asked == [PoolResize(**NAMED, **ATTEMPT, size=40)]
    assert PoolView.model_validate(document(result)) == VIEW


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "name ranges to add or to remove, or a size: one of the two"),
        (("--size", "4", "--add", "10.20.0.1"), "one of the two"),
        (("--add", "10.20.0.0/28", "--remove", "10.20.0.1"), "overlap"),
    ],
)
def test_resize_refuses_what_goes_neither_way_or_both(options, said):
    allocator, result = pool("resize", "prod", "web", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert allocator.asked == []


def test_resize_names_who_is_in_the_way():
    error = ServiceError(Code.RANGE_IN_USE, "somebody holds addresses there", holders=[HOLDER])
    allocator = FakeAllocator({PoolResize: lambda _: error})
    result = run(allocator, "pool", "resize", "prod", "web", "--remove", "10.20.0.10")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].split() == ["10.20.0.10", "shop/web-0", "waiting", "-"]


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (("--owner", "shop/*", "--owner", "ops/db-*"), {"owners": ["shop/*", "ops/db-*"]}),
        (("--everybody",), {"owners": []}),
        (("--cooldown", "0"), {"cooldown_s": 0}),
        (("--cooldown", "15m"), {"cooldown_s": 900}),
        (("--retain", "12h"), {"retain_s": 43_200}),
        (("--retain-forever",), {"retain_s": 0}),
        (("--allow-mac",), {"allow_mac": True}),
        (("--no-allow-mac",), {"allow_mac": False}),
    ],
)
def test_update_asks_for_the_change_that_is_named_and_no_other(options, change):
    allocator, result = pool(
        "update", "prod", "web", *options, "--expected-version", "7", "--request-id", "a"
    )
    assert allocator.asked == [PoolUpdate(**NAMED, **ATTEMPT, expected_version=7, **change)]
    assert table(result) == [HEAD, ROW]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "nothing to change: name --owner"),
        (("--expected-version", "7"), "nothing to change"),
        (("--owner", "shop/*", "--everybody"), "say --owner or --everybody: one of the two"),
        (("--retain", "1d", "--retain-forever"), "say --retain or --retain-forever: one of the two"),
        (("--retain", "0"), "--retain 0: write at least 1s"),
        (("--cooldown", "soon"), "--cooldown soon: write a duration"),
    ],
)
def test_update_refuses_what_changes_nothing_or_contradicts_itself(options, said):
    allocator, result = pool("update", "prod", "web", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert allocator.asked == []


def test_update_gives_the_answers_own_json():
    assert (
        PoolView.model_validate(document(pool("update", "prod", "web", "--everybody", "-o", "json")[1]))
        == VIEW
    )


def test_a_stale_version_is_a_refusal_whose_message_says_what_to_do():
    error = ServiceError(Code.VERSION_CONFLICT, "pool web is at version 9: look at it again")
    allocator = FakeAllocator({PoolUpdate: lambda _: error})
    result = run(allocator, "pool", "update", "prod", "web", "--everybody", "--expected-version", "7")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: pool web is at version 9: look at it again (version_conflict)\n",
    )


def test_delete_with_yes_asks_nobody():
    allocator, result = pool(
        *("delete", "prod", "web", "--yes", "--expected-version", "7", "--request-id", "a")
    )
    assert allocator.asked == [PoolDelete(**NAMED, **ATTEMPT, expected_version=7)]
    assert (result.exit_code, result.stdout) == (0, "pool web of network prod is deleted\n")


def test_delete_gives_an_empty_document():
    assert document(pool("delete", "prod", "web", "-y", "-o", "json")[1]) == {}


@pytest.mark.parametrize("typed", ["y\n", "yes\n", " YES \n"])
def test_delete_at_a_terminal_is_carried_out_after_a_yes(typed):
    allocator = FakeAllocator({PoolDelete: lambda _: Done()})
    result = run_at_a_terminal(allocator, typed, "pool", "delete", "prod", "web")
    assert result.exit_code == 0
    assert "go back to the default pool. Delete pool web of network prod? [y/N]" in result.stderr
    assert [type(request) for request in allocator.asked] == [PoolDelete]


@pytest.mark.parametrize("typed", ["n\n", "\n", "", "yeah\n"])
def test_delete_at_a_terminal_changes_nothing_without_a_yes(typed):
    allocator = FakeAllocator({PoolDelete: lambda _: Done()})
    result = run_at_a_terminal(allocator, typed, "pool", "delete", "prod", "web")
    assert result.exit_code == 1
    assert result.stderr.endswith("[y/N]: Nothing was changed.\n")
    assert allocator.asked == []


def test_who_gives_up_at_the_question_has_nothing_to_repeat():
    allocator = FakeAllocator({PoolDelete: lambda _: Done()})
    result = run_at_a_terminal(allocator, CTRL_C, "pool", "delete", "prod", "web")
    assert result.exit_code == 1
    assert "--request-id" not in result.stderr
    assert allocator.asked == []


def test_a_question_asked_for_json_leaves_the_document_alone():
    allocator = FakeAllocator({PoolDelete: lambda _: Done()})
    result = run_at_a_terminal(allocator, "y\n", "pool", "delete", "prod", "web", "-o", "json")
    assert result.stdout == "{}\n"


def test_delete_without_a_terminal_needs_yes():
    allocator, result = pool("delete", "prod", "web", "-o", "json")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert document(result)["error"]["code"] == "invalid_request"
    assert allocator.asked == []


def test_a_name_that_cannot_be_used_is_refused_before_the_question():
    result = run_at_a_terminal(FakeAllocator({}), "y\n", "pool", "delete", "prod", "Web")
    assert result.exit_code == 2
    assert "[y/N]" not in result.stderr


def test_delete_names_who_still_holds_addresses():
    error = ServiceError(Code.POOL_IN_USE, "addresses of pool web are held", holders=[HOLDER])
    allocator = FakeAllocator({PoolDelete: lambda _: error})
    result = run(allocator, "pool", "delete", "prod", "web", "--yes")
    assert result.exit_code == 1
    assert "shop/web-0" in result.stderr


def test_a_pool_with_more_ranges_than_an_answer_holds_says_how_many_more():
    view = PoolView(
        network="prod",
        pool="default",
        policy="shared",
        ranges=["10.20.0.1-10.20.0.9"],
        range_count=301,
        total=9,
        used=0,
    )
    allocator = FakeAllocator({PoolList: lambda _: PoolPage(pools=[view])})
    result = run(allocator, "pool", "list", "prod")
    assert table(result)[1] == [
        *("default", "shared", "10.20.0.1-10.20.0.9, and 300 more", "0 of 9"),
        *("all of the network", "2m", "-", "no", "0"),
    ]
    assert document(run(allocator, "pool", "list", "prod", "-o", "json"))["pools"][0]["range_count"] == 301


def test_a_pinned_pool_that_names_no_time_keeps_addresses_for_ever():
    view = VIEW.model_copy(update={"retain_s": None})
    result = run(FakeAllocator({PoolList: lambda _: PoolPage(pools=[view])}), "pool", "list", "prod")
    assert table(result)[1][6] == "for ever"
