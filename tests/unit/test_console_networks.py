"""`moorage network`: what is asked, and how the answers read."""

import pytest

from schemas.errors import Code, ErrorBody, ServiceError
from schemas.network import (
    NetworkCreate,
    NetworkList,
    NetworkPage,
    NetworkShow,
    NetworkUpdate,
    NetworkView,
    NodeResult,
)
from tests.console_fakes import ACTOR, FakeAllocator, document, run, table


def created(request: NetworkCreate) -> NetworkView:
    nodes = (NodeResult(node="node-1", state="ready"), NodeResult(node="node-2", state="ready"))
    return NetworkView(
        network=request.network,
        definition=request.definition,
        state="active",
        version=4294967297,
        total=253,
        used=2,
        nodes=nodes,
    )


def create(*options: str) -> tuple[FakeAllocator, object]:
    allocator = FakeAllocator({NetworkCreate: created})
    return allocator, run(allocator, "network", "create", "prod", *options)


def test_create_asks_for_what_the_options_say():
    allocator, result = create(
        *("--subnet", "10.20.0.0/24,gateway=10.20.0.1", "--subnet", "fd00:20::/64"),
        *("--uplink", "eth1", "--mtu", "1450", "--owner", "shop/*", "--owner", "ops/db-*"),
        *("--driver", "bridge", "--deadline", "45", "--request-id", "attempt-1"),
    )
    assert result.exit_code == 0
    assert allocator.asked == [
        NetworkCreate(
            request_id="attempt-1",
            actor=ACTOR,
            network="prod",
            driver={"type": "bridge", "uplink": "eth1"},
            subnets=[{"cidr": "10.20.0.0/24", "gateway": "10.20.0.1"}, {"cidr": "fd00:20::/64"}],
            mtu=1450,
            owners=["shop/*", "ops/db-*"],
            deadline_s=45,
        )
    ]


def test_create_leaves_the_rest_to_the_defaults_of_the_request():
    allocator, _ = create("--subnet", "10.20.0.0/24", "--request-id", "a")
    assert allocator.asked == [
        NetworkCreate(request_id="a", actor=ACTOR, network="prod", subnets=[{"cidr": "10.20.0.0/24"}])
    ]


def test_create_waits_as_long_as_the_nodes_and_the_rollback_may_take():
    late = iter([ServiceError(Code.TIMEOUT, "not answered yet")])
    allocator = FakeAllocator({NetworkCreate: lambda request: next(late, None) or created(request)})
    result = run(allocator, "network", "create", "prod", "--subnet", "10.20.0.0/24", "--deadline", "45")
    assert result.exit_code == 0
    assert allocator.patience == [allocator.timeout_s, 45 + 20]
    assert allocator.asked[0] == allocator.asked[1]


def test_create_does_not_wait_for_a_broker_that_is_away():
    away = FakeAllocator({NetworkCreate: lambda _: ServiceError(Code.UNAVAILABLE, "no broker")})
    result = run(away, "network", "create", "prod", "--subnet", "10.20.0.0/24")
    assert result.exit_code == 3
    assert away.patience == [away.timeout_s]


def test_each_create_has_a_request_id_of_its_own():
    first, second = (create("--subnet", "10.20.0.0/24")[0].asked[0] for _ in range(2))
    assert first.request_id != second.request_id


@pytest.mark.parametrize(
    "subnet",
    [
        "10.20.0.0/24,10.20.0.1",
        "10.20.0.0/24,gatway=10.20.0.1",
        "10.20.0.0/24,gateway=10.20.0.1,gateway=10.20.0.2",
        "10.20.0.0/24,gateway=",
        "10.20.0.0/24,gateway=10.21.0.1",
        "10.20.0.0",
        "",
    ],
)
def test_a_subnet_that_cannot_be_read_is_refused_before_anything_is_asked(subnet):
    allocator, result = create("--subnet", subnet)
    assert result.exit_code == 2
    assert "(invalid_request)" in result.stderr
    assert allocator.asked == []


def test_create_shows_the_network_and_each_node():
    _, result = create("--subnet", "10.20.0.0/24,gateway=10.20.0.1", "--uplink", "eth1", "--owner", "shop/*")
    assert table(result) == [
        ["network", "prod"],
        ["state", "active"],
        ["version", "4294967297"],
        ["driver", "bridge on eth1"],
        ["subnets", "10.20.0.0/24 gateway 10.20.0.1"],
        ["mtu", "1500"],
        ["owners", "shop/*"],
        ["used", "2 of 253"],
        [],
        ["NODE", "STATE", "ERROR"],
        ["node-1", "ready", "-"],
        ["node-2", "ready", "-"],
    ]


def test_create_gives_the_answers_own_json():
    allocator, result = create("--subnet", "10.20.0.0/24", "--output", "json")
    assert NetworkView.model_validate(document(result)) == created(allocator.asked[0])


CREATED = created(
    NetworkCreate(request_id="a", network="prod", subnets=[{"cidr": "10.20.0.0/24"}], owners=["shop/*"])
)


def update(*options: str, view: NetworkView = CREATED) -> tuple[FakeAllocator, object]:
    allocator = FakeAllocator({NetworkUpdate: lambda _: view})
    return allocator, run(allocator, "network", "update", "prod", *options)


def test_update_asks_for_what_the_options_say():
    allocator, result = update(
        *("--add-subnet", "10.21.0.0/24,gateway=10.21.0.1", "--add-subnet", "fd00:21::/64"),
        *("--owner", "shop/*", "--owner", "ops/db-*", "--expected-version", "7"),
        *("--deadline", "45", "--request-id", "a"),
    )
    assert allocator.asked == [
        NetworkUpdate(
            request_id="a",
            actor=ACTOR,
            network="prod",
            expected_version=7,
            add_subnets=[{"cidr": "10.21.0.0/24", "gateway": "10.21.0.1"}, {"cidr": "fd00:21::/64"}],
            owners=["shop/*", "ops/db-*"],
            deadline_s=45,
        )
    ]
    assert ["owners", "shop/*"] in table(result)
    assert table(result)[-2:] == [["node-1", "ready", "-"], ["node-2", "ready", "-"]]
    assert (result.exit_code, result.stderr) == (0, "")


def test_update_leaves_the_owners_alone_unless_they_are_named():
    allocator, _ = update("--add-subnet", "10.21.0.0/24")
    assert allocator.asked[0].owners is None


def test_update_to_everybody_names_no_owners():
    allocator, _ = update("--everybody")
    assert (allocator.asked[0].owners, allocator.asked[0].add_subnets) == ((), ())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "nothing to change: add subnets, set the MTU or name the owners"),
        (("--owner", "shop/*", "--everybody"), "say --owner or --everybody: one of the two"),
        (("--add-subnet", "10.21.0.0/24,10.21.0.1"), "--add-subnet 10.21.0.0/24,10.21.0.1: write CIDR"),
        (("--add-subnet", "10.21.0.5/24"), "has host bits set: write 10.21.0.0/24"),
        (("--everybody", "--deadline", "601"), "deadline_s"),
    ],
)
def test_an_update_that_cannot_be_meant_is_refused_before_anything_is_asked(options, said):
    allocator, result = update(*options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert allocator.asked == []


def test_update_waits_as_long_as_the_nodes_may_take():
    late = iter([ServiceError(Code.TIMEOUT, "not answered yet")])
    allocator = FakeAllocator({NetworkUpdate: lambda _: next(late, None) or CREATED})
    result = run(allocator, "network", "update", "prod", "--everybody", "--deadline", "45")
    assert result.exit_code == 0
    assert allocator.patience == [allocator.timeout_s, 45 + 5]
    assert allocator.asked[0] == allocator.asked[1]


LAGGING = CREATED.model_copy(
    update={
        "nodes": (
            NodeResult(node="node-1", state="ready"),
            NodeResult(
                node="node-2", state="error", error=ErrorBody(code=Code.UPLINK_MISSING, message="no eth1")
            ),
            NodeResult(node="node-3", state="pending"),
        )
    }
)


@pytest.mark.parametrize("output", ["table", "json"])
def test_an_update_that_a_node_could_not_follow_ends_with_1_and_what_to_do(output):
    _, result = update("--everybody", "-o", output, view=LAGGING)
    assert result.exit_code == 1
    assert "Network prod stays active, but 1 of 3 nodes failed to follow" in result.stderr
    assert "they try again by themselves" in result.stderr
    assert "moorage network show prod" in result.stderr
    if output == "json":
        assert NetworkView.model_validate(document(result)) == LAGGING
    else:
        assert ["node-2", "error", "uplink_missing: no eth1"] in table(result)


def test_what_to_do_stands_below_the_answer_where_both_go_into_one_file():
    _, result = update("--everybody", view=LAGGING)
    assert result.output == result.stdout + result.stderr


def test_an_update_that_a_node_has_yet_to_hear_of_is_done():
    nodes = (NodeResult(node="node-1", state="ready"), NodeResult(node="node-2", state="pending"))
    _, result = update("--everybody", view=CREATED.model_copy(update={"nodes": nodes}))
    assert result.exit_code == 0
    assert "1 of 2 nodes have not reported yet" in result.stderr


def test_show_tells_a_nodes_own_error():
    view = NetworkView(
        network="prod",
        definition={"subnets": [{"cidr": "10.20.0.0/24"}]},
        state="deleting",
        version=2,
        nodes=[
            NodeResult(
                node="node-1", state="error", error=ErrorBody(code=Code.UPLINK_MISSING, message="no eth1")
            )
        ],
    )
    result = run(FakeAllocator({NetworkShow: lambda _: view}), "network", "show", "prod")
    assert table(result)[-1] == ["node-1", "error", "uplink_missing: no eth1"]
    assert ["owners", "everybody"] in table(result)


def test_show_of_a_network_on_no_node_says_where_to_look():
    view = NetworkView(
        network="prod", definition={"subnets": [{"cidr": "10.20.0.0/24"}]}, state="active", version=2
    )
    result = run(FakeAllocator({NetworkShow: lambda _: view}), "network", "show", "prod")
    assert "moorage node list" in result.stderr


def test_list_has_one_line_for_each_network():
    view = created(
        NetworkCreate(
            request_id="a",
            network="prod",
            driver={"type": "bridge", "uplink": "eth1"},
            subnets=[{"cidr": "10.20.0.0/24"}, {"cidr": "fd00:20::/64"}],
            owners=["shop/*"],
        )
    )
    page = NetworkPage(networks=[view])
    result = run(FakeAllocator({NetworkList: lambda _: page}), "network", "list")
    assert table(result) == [
        ["NETWORK", "STATE", "SUBNETS", "USED", "DRIVER", "OWNERS", "MTU", "VERSION"],
        [
            *("prod", "active", "10.20.0.0/24, fd00:20::/64", "2 of 253"),
            *("bridge on eth1", "shop/*", "1500", "4294967297"),
        ],
    ]


def test_an_empty_list_says_what_to_do_and_is_still_a_document():
    allocator = FakeAllocator({NetworkList: lambda _: NetworkPage(networks=())})
    people, program = run(allocator, "network", "list"), run(allocator, "network", "list", "-o", "json")
    assert people.exit_code == program.exit_code == 0
    assert "moorage network create" in people.stderr
    assert document(program) == {"next": None, "networks": []}
