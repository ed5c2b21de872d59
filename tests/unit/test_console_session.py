"""How a command ends: exit codes, what is said to whom, cursors followed, limits kept."""

import socket
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from console.session import EXIT_CODES
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.network import NetworkCreate, NetworkList, NetworkPage, NetworkShow, NetworkView, NodeResult
from schemas.node import NodeList, NodePage
from schemas.pool import PoolCreate
from tests.console_fakes import FakeAllocator, document, moorage, run, table

DEFINITION = {"subnets": [{"cidr": "10.20.0.0/24"}]}
SHOW = ("network", "show", "prod")
CREATE = ("network", "create", "prod", "--subnet", "10.20.0.0/24")


def view(name: str) -> NetworkView:
    return NetworkView(network=name, definition=DEFINITION, state="active", version=1)


def refusing(error: ServiceError) -> FakeAllocator:
    return FakeAllocator({request: lambda _: error for request in (NetworkShow, NetworkCreate, PoolCreate)})


def paging(count: int) -> FakeAllocator:
    """An allocator with `count` networks, which keeps to the page sizes it is asked for."""
    names = [f"n{number:04}" for number in range(count)]

    def page(query: NetworkList) -> NetworkPage:
        left = [name for name in names if name > (query.after or "")]
        shown = left[: query.limit]
        return NetworkPage(
            networks=[view(name) for name in shown], next=shown[-1] if len(left) > len(shown) else None
        )

    return FakeAllocator({NetworkList: page})


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (Code.NETWORK_UNKNOWN, 1),
        (Code.NETWORK_EXISTS, 1),
        (Code.ROLLOUT_FAILED, 1),
        (Code.VERSION_CONFLICT, 1),
        (Code.INTERNAL, 1),
        ("a_code_of_a_newer_allocator", 1),
        (Code.INVALID_REQUEST, 2),
        (Code.TOO_LARGE, 2),
        (Code.UNAVAILABLE, 3),
        (Code.TIMEOUT, 3),
        (Code.PAUSED, 3),
        (Code.NOT_PROVISIONED, 3),
        (Code.SENDER_FORBIDDEN, 4),
    ],
)
def test_the_exit_code_tells_a_refusal_from_bad_input_from_absence_from_no_permission(code, exit_code):
    result = run(refusing(ServiceError(code, "do this instead")), *SHOW)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr == f"error: do this instead ({code})\n"


def test_with_json_an_error_is_one_document_on_stdout_and_a_line_on_stderr():
    error = ServiceError(Code.NETWORK_UNKNOWN, "there is no network prod", network="prod")
    result = run(refusing(error), *SHOW, "--output", "json")
    assert result.exit_code == 1
    assert document(result) == {"error": error.body().model_dump(mode="json")}
    assert ErrorBody.model_validate(document(result)["error"]) == error.body()
    assert result.stderr == "error: there is no network prod (network_unknown)\n"


def test_fields_that_json_does_not_know_do_not_hide_the_error():
    result = run(refusing(ServiceError(Code.INTERNAL, "it broke", cause=object())), *SHOW, "-o", "json")
    assert document(result)["error"]["message"] == "it broke"


def test_a_value_that_cannot_be_used_is_explained_and_nothing_is_asked():
    allocator = refusing(ServiceError(Code.INTERNAL, "not to be asked"))
    result = run(allocator, "network", "create", "prod", "--subnet", "10.20.0.5/24")
    assert result.exit_code == 2
    assert "'10.20.0.5/24' has host bits set: write 10.20.0.0/24" in result.stderr
    assert allocator.asked == []


def test_with_json_a_value_that_cannot_be_used_is_an_error_document_too():
    result = run(refusing(ServiceError(Code.INTERNAL, "")), "network", "show", "No Name", "-o", "json")
    assert result.exit_code == 2
    assert document(result)["error"]["code"] == "invalid_request"


def test_a_command_line_that_typer_refuses_ends_with_2():
    assert run(refusing(ServiceError(Code.INTERNAL, "")), "network", "create", "prod").exit_code == 2
    assert run(paging(1), "network", "list", "--limit", "0").exit_code == 2
    assert run(paging(1), "network", "list", "--output", "yaml").exit_code == 2


def test_without_an_amqp_url_it_says_which_setting_to_make():
    allocator = paging(1)
    allocator.broker = None
    result = run(allocator, "network", "list")
    assert result.exit_code == 3
    assert "MOORAGE_AMQP_URL is not set" in result.stderr
    assert "moorage up" in result.stderr


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.TIMEOUT])
@pytest.mark.parametrize(
    "command", [CREATE, ("pool", "create", "prod", "web", "--policy", "pinned", "--range", "10.20.0.10")]
)
def test_a_change_of_unknown_outcome_is_to_be_repeated_under_its_request_id(code, command):
    allocator = refusing(ServiceError(code, "nobody answered"))
    result = run(allocator, *command, "-o", "json")
    asked = allocator.asked[0]
    assert result.exit_code == 3
    assert f"Run the same command again with --request-id {asked.request_id}" in result.stderr
    assert document(result)["error"]["fields"]["request_id"] == asked.request_id
    again = run(allocator, *command, "--request-id", asked.request_id)
    assert set(request.request_id for request in allocator.asked) == {asked.request_id}
    assert asked.request_id in again.stderr


def test_a_change_that_was_refused_is_not_to_be_repeated():
    result = run(refusing(ServiceError(Code.NETWORK_EXISTS, "it exists")), *CREATE)
    assert "--request-id" not in result.stderr


def test_a_read_of_unknown_outcome_needs_no_request_id():
    assert "--request-id" not in run(refusing(ServiceError(Code.TIMEOUT, "late")), *SHOW).stderr


def test_who_gives_up_waiting_for_a_change_learns_its_request_id():
    class GivingUp(FakeAllocator):
        async def ask(self, request, *, timeout_s=10.0):
            raise KeyboardInterrupt

    allocator = GivingUp({})
    result = run(allocator, *CREATE, "--request-id", "attempt-7")
    assert result.exit_code == 130
    assert "--request-id attempt-7" in result.stderr


def test_a_failed_rollout_shows_what_each_node_said():
    nodes = [
        NodeResult(node="node-1", state="ready"),
        NodeResult(
            node="node-2",
            state="error",
            error=ErrorBody(code=Code.UPLINK_MISSING, message="there is no interface eth1 " + "x" * 200),
        ),
    ]
    listed = [node.model_dump(mode="json") for node in nodes]
    result = run(refusing(ServiceError(Code.ROLLOUT_FAILED, "taken back", nodes=listed)), *CREATE)
    assert result.exit_code == 1
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["NODE", "STATE", "ERROR"] in lines
    assert ["node-1", "ready", "-"] in lines
    said = " ".join(("uplink_missing:", "there is no interface eth1", "x" * 200)).split()
    assert ["node-2", "error", *said] in lines


def test_holders_in_the_way_are_listed():
    holder = {"address": "10.20.0.10", "owner": "shop/web-0", "state": "waiting", "node": None}
    error = ServiceError(Code.RANGE_IN_USE, "held", holders=[holder])
    result = run(
        refusing(error), "pool", "create", "prod", "web", "--policy", "shared", "--range", "10.20.0.10"
    )
    lines = [line.split() for line in result.stderr.splitlines()]
    assert lines[1:] == [["ADDRESS", "OWNER", "STATE", "NODE"], ["10.20.0.10", "shop/web-0", "waiting", "-"]]


def test_of_many_holders_a_small_table_is_shown_and_json_names_them_all():
    holders = [
        {"address": f"10.20.0.{at}", "owner": f"shop/web-{at}", "state": "waiting", "node": None}
        for at in range(25)
    ]
    error = ServiceError(Code.EXHAUSTED, "no free address", holders=holders)
    result = run(refusing(error), *CREATE, "-o", "json")
    lines = [line.split() for line in result.stderr.splitlines()]
    assert [line[0] for line in lines[2:12]] == [f"10.20.0.{at}" for at in range(10)]
    assert lines[12:] == [["and", "15", "more,", "which", "--output", "json", "names"]]
    assert document(result)["error"]["fields"]["holders"] == holders


@pytest.mark.parametrize("odd", ["text", 7, [1, 2], [{"node": "no state"}], None])
def test_details_in_another_shape_do_not_hide_the_error(odd):
    result = run(refusing(ServiceError(Code.ROLLOUT_FAILED, "it failed", nodes=odd, holders=odd)), *CREATE)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: it failed (rollout_failed)\n")


def test_what_a_node_reports_cannot_steer_the_terminal():
    result = run(refusing(ServiceError(Code.INTERNAL, "red \x1b[31m and [bold]loud[/bold]\nnext")), *SHOW)
    assert result.stderr == "error: red \\x1b[31m and [bold]loud[/bold]\\nnext (internal)\n"


def test_a_list_follows_the_cursor_to_the_end():
    allocator = paging(250)
    result = run(allocator, "network", "list")
    assert result.exit_code == 0
    assert [line[0] for line in table(result)] == ["NETWORK", *(f"n{number:04}" for number in range(250))]
    assert [query.after for query in allocator.asked] == [None, "n0099", "n0199"]
    assert result.stderr == ""


def test_json_pages_are_joined_into_one_document():
    got = document(run(paging(250), "network", "list", "--output", "json"))
    assert got["next"] is None
    assert NetworkPage.model_validate(got).networks == tuple(view(f"n{number:04}") for number in range(250))


@pytest.mark.parametrize("limit", [1, 99, 100, 101, 249])
def test_a_limit_stops_after_so_many_rows_and_says_that_there_are_more(limit):
    result = run(paging(250), "network", "list", "--limit", str(limit), "-o", "json")
    got = document(result)
    assert [row["network"] for row in got["networks"]] == [f"n{number:04}" for number in range(limit)]
    assert got["next"] == f"n{limit - 1:04}"
    assert f"more than these {limit}" in result.stderr


def test_a_limit_that_cuts_nothing_says_nothing():
    result = run(paging(5), "network", "list", "--limit", "5", "-o", "json")
    assert len(document(result)["networks"]) == 5
    assert result.stderr == ""


def test_a_cursor_that_stands_still_is_not_followed_for_ever():
    allocator = FakeAllocator({NodeList: lambda _: NodePage(nodes=(), next="a")})
    result = run(allocator, "node", "list")
    assert result.exit_code == 1
    assert "do not go on after a" in result.stderr
    assert len(allocator.asked) == 2


def test_an_answer_of_another_kind_is_an_error_not_a_crash():
    result = run(FakeAllocator({NetworkShow: lambda _: NodePage(nodes=())}), *SHOW)
    assert result.exit_code == 1
    assert "NodePage" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("network", "create"),
        ("network", "update"),
        ("network", "list"),
        ("network", "show"),
        ("pool", "create"),
        ("pool", "list"),
        ("pool", "resize"),
        ("pool", "update"),
        ("pool", "delete"),
        ("address", "list"),
        ("address", "show"),
        ("address", "map"),
        ("address", "reserve"),
        ("address", "rebind"),
        ("address", "release"),
        ("node", "list"),
        ("node", "fence"),
        ("node", "remove"),
        ("history",),
    ],
)
@pytest.mark.parametrize("markup", ["markdown", "rich"])
def test_every_help_ends_with_the_exit_codes(command, markup):
    result = CliRunner().invoke(moorage(markup), [*command, "--help"])
    assert result.exit_code == 0
    shown = [line.split() for line in result.stdout.splitlines()]
    for line in EXIT_CODES.splitlines():
        assert line.split() in shown


def test_over_rabbitmq_an_absent_broker_ends_with_3_and_what_to_look_at():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        url = f"amqp://console.ann:secret@127.0.0.1:{closed.getsockname()[1]}/"
        settings = SimpleNamespace(broker=url, timeout_s=0.5)
        result = CliRunner().invoke(moorage(), list(SHOW), obj=settings)
    assert result.exit_code == 3
    assert "is it running there" in result.stderr
    assert "secret" not in result.output
