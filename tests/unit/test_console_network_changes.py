"""`moorage network create|delete`: drivers and their options, refused deletes, the bar over nodes."""

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console

from console import rollout_bar
from schemas.drivers import IpvlanDriver, MacvlanDriver, VxlanDriver
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.network import NetworkCreate, NetworkDelete, NetworkShow, NetworkView, NodeResult
from tests.console_fakes import ACTOR, FakeAllocator, document, run, run_at_a_terminal

SUBNET = ("--subnet", "10.20.0.0/24")


def node(name: str, state: Any, code: str | None = None) -> NodeResult:
    error = ErrorBody(code=code, message=f"{code} here") if code else None
    return NodeResult(node=name, state=state, error=error)


def view(request: Any, *nodes: NodeResult, state: Any = "active") -> NetworkView:
    counts = {
        one: [result.state for result in nodes].count(one) for one in {result.state for result in nodes}
    }
    made = NetworkCreate.model_validate(
        {"request_id": "r", "network": request.network, "subnets": [{"cidr": "10.20.0.0/24"}]}
    )
    return NetworkView(
        network=request.network,
        definition=made.definition,
        state=state,
        version=7,
        total=253,
        used=3,
        nodes=nodes,
        node_counts=counts,
    )


def create(*options: str) -> tuple[FakeAllocator, Any]:
    allocator = FakeAllocator({NetworkCreate: lambda request: view(request, node("n1", "ready"))})
    return allocator, run(allocator, "network", "create", "prod", *SUBNET, *options)


@pytest.mark.parametrize(
    ("options", "driver", "mtu"),
    [
        (("--driver", "vxlan", "--vni", "42"), VxlanDriver(vni=42), 1450),
        (("--driver", "vxlan", "--vni", "42", "--port", "8472"), VxlanDriver(vni=42, port=8472), 1450),
        (("--driver", "macvlan", "--parent", "eth1"), MacvlanDriver(parent="eth1"), 1500),
        (
            ("--driver", "macvlan", "--parent", "eth1", "--vlan", "5", "--mode", "vepa", "--no-host-access"),
            MacvlanDriver(parent="eth1", vlan=5, mode="vepa", host_access=False),
            1500,
        ),
        (
            ("--driver", "ipvlan", "--parent", "eth1", "--service-cidr", "10.96.0.0/12"),
            IpvlanDriver.model_validate({"parent": "eth1", "services": ["10.96.0.0/12"]}),
            1500,
        ),
    ],
)
def test_a_driver_has_the_options_that_it_was_given(options: tuple[str, ...], driver: Any, mtu: int):
    allocator, result = create(*options)
    assert result.exit_code == 0, result.stderr
    (request,) = allocator.asked
    assert (request.driver, request.mtu) == (driver, mtu)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--vni", "42"), "driver.bridge.vni: unknown field"),
        (("--driver", "vxlan"), "driver.vxlan.vni: Field required"),
        (("--driver", "vxlan", "--vni", "0"), "driver.vxlan.vni"),
        (("--driver", "macvlan"), "driver.macvlan.parent: Field required"),
        (
            ("--driver", "ipvlan", "--parent", "eth1", "--uplink", "eth1"),
            "driver.ipvlan.uplink: unknown field",
        ),
        (("--vlan", "5"), "Name the uplink"),
        (("--masquerade",), "add gateway"),
        (("--gateway-on-node",), "10.20.0.0/24 has none"),
        (("--uplink", "eth1", "--gateway-on-node"), "leave it to a router"),
    ],
)
def test_options_that_a_driver_does_not_have_are_named_before_anything_is_asked(
    options: tuple[str, ...], said: str
):
    allocator, result = create(*options)
    assert (result.exit_code, allocator.asked) == (2, [])
    assert said in result.stderr


def test_what_is_kept_although_a_node_refused_ends_with_exit_code_1_and_tells_who():
    answer = lambda request: view(request, node("n1", "ready"), node("n2", "error", "uplink_missing"))  # noqa: E731
    allocator = FakeAllocator({NetworkCreate: answer})
    result = run(allocator, "network", "create", "prod", *SUBNET, "--keep-going")
    assert allocator.asked[0].keep_going
    assert result.exit_code == 1
    assert "uplink_missing: uplink_missing here" in result.stdout
    assert "1 of 2 nodes failed" in result.stderr


def delete(*options: str, answer: Any = None) -> tuple[FakeAllocator, Any]:
    gone = answer or (lambda request: view(request, node("n1", "removed"), state="deleted"))
    shown = lambda request: view(request, node("n1", "ready"))  # noqa: E731
    allocator = FakeAllocator({NetworkDelete: gone, NetworkShow: shown})
    return allocator, run(allocator, "network", "delete", "prod", *options)


def test_a_delete_asks_for_what_the_options_say():
    allocator, result = delete(
        "--yes", "--force", "--reason", "it left", "--request-id", "a", "--deadline", "9"
    )
    assert result.exit_code == 0, result.stderr
    assert allocator.asked == [
        NetworkDelete(request_id="a", actor=ACTOR, network="prod", force=True, reason="it left", deadline_s=9)
    ]


def test_a_delete_by_force_needs_a_reason():
    allocator, result = delete("--yes", "--force")
    assert (result.exit_code, allocator.asked) == (2, [])
    assert "say why" in result.stderr


def test_a_delete_asks_first_where_somebody_is_there_to_ask():
    allocator = FakeAllocator({NetworkShow: lambda request: view(request, node("n1", "ready"))})
    words = ("network", "delete", "prod", "--force", "--reason", "it left")
    result = run_at_a_terminal(allocator, "n\n", *words)
    assert [type(request) for request in allocator.asked] == [NetworkShow]
    assert result.exit_code == 1
    assert "3 used addresses" in result.stderr


def test_a_delete_without_a_terminal_needs_a_yes():
    allocator, result = delete()
    assert (result.exit_code, allocator.asked) == (2, [])


def test_a_refused_delete_names_the_holders_in_json():
    holders = [{"address": "10.20.0.5", "owner": "shop/web-0", "state": "attached", "node": "n1"}]
    refused = ServiceError(Code.NETWORK_IN_USE, "1 attached", attached=1, holders=holders)
    _, result = delete("--yes", "--output", "json", answer=lambda _: refused)
    assert result.exit_code == 1
    assert document(result)["error"]["fields"]["holders"] == holders


def test_a_delete_that_is_not_over_says_who_still_has_it():
    late = lambda request: view(  # noqa: E731
        request, node("n1", "removed"), node("n2", "error", "link_conflict"), state="deleting"
    )
    _, result = delete("--yes", answer=late)
    assert result.exit_code == 1
    assert "still being deleted: 1 nodes failed" in result.stderr


def test_a_delete_tells_of_nodes_that_are_away():
    away = lambda request: view(request, node("n1", "removed"), node("n2", "ready"), state="deleted")  # noqa: E731
    _, result = delete("--yes", answer=away)
    assert result.exit_code == 0
    assert "1 nodes are away" in result.stderr


async def test_a_bar_follows_the_nodes_while_a_change_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=120)
    monkeypatch.setattr(rollout_bar, "stderr", lambda: console)
    monkeypatch.setattr(rollout_bar, "_EVERY_S", 0.005)
    looks = iter(
        [
            ServiceError(Code.NETWORK_UNKNOWN, "not there yet"),
            view(NetworkShow(network="prod"), node("n1", "pending"), node("n2", "pending")),
            view(NetworkShow(network="prod"), node("n1", "ready"), node("n2", "error", "uplink_missing")),
        ]
    )
    enough = asyncio.Event()
    last: list[Any] = []

    def answer(request: NetworkShow) -> Any:
        assert not request.with_nodes, "thousands of nodes are not asked for again and again"
        found = next(looks, None)
        if found is None:
            enough.set()
            return last[0]
        last[:] = [found]
        return found

    async with rollout_bar.rollout_bar(FakeAllocator({NetworkShow: answer}), "prod", "Waiting"):
        async with asyncio.timeout(5):
            await enough.wait()
    assert "2 of 2 nodes, 1 failed" in drawn.getvalue()


async def test_where_nobody_sees_a_bar_nothing_is_asked_for_it():
    allocator = FakeAllocator({})
    async with rollout_bar.rollout_bar(allocator, "prod", "Waiting"):
        await asyncio.sleep(0)
    assert allocator.asked == []
