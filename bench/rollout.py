"""A network's way onto a thousand nodes: from `network.create` to its answer, and where some refuse."""

import time

from bench.fleet import Recruit, fleet
from bench.machine import Machine, Place, Size, memory_mb, on_uvloop, pid_of
from bench.pods import WAIT_S, new_network
from bench.results import Figure
from broker.rpc import rpc_client
from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkView

MADE, REFUSED = "bench-made", "bench-refused"
REFUSING = 10
FIGURES = (
    Figure("rollout_1000_nodes_s", "seconds until a new network is on 1,000 nodes", at_most=20),
    Figure("rollout_1000_refused_s", "the same until it is taken back because ten of them refuse it"),
    Figure("rollout_allocator_rss_mb", "peak memory of the allocator process meanwhile, MB"),
    Figure("rollout_enrolled_s", "seconds to enroll the 1,000 nodes"),
    Figure("rollout_connected_s", "seconds until the 1,000 nodes are connected and have synced"),
)


def run(machine: Machine) -> dict[str, float]:
    """Two networks, one after the other.

    Raises AssertionError where a node does not have the network, or others than those that refuse it are
    named.
    """
    count = 20 if machine.size is Size.QUICK else 1_000
    names = [f"bench-{number}" for number in range(count)]
    place, database = machine.place("rollout"), machine.database("rollout")
    began = time.perf_counter()
    urls = machine.enroll_nodes(place, names)
    enrolled = time.perf_counter()
    refusing = set(names[:: count // REFUSING])
    recruits = [Recruit(name, urls[name], REFUSED if name in refusing else None) for name in names]
    with machine.allocator(place, database) as allocator, fleet(recruits):
        connected = time.perf_counter()
        machine.tell(f"{count:,} nodes get a network, and then another one that {len(refusing)} refuse")
        made, refused = on_uvloop(_measure(place, set(names), refusing))
        peak = memory_mb(pid_of(allocator), "VmHWM")
    return {
        "rollout_1000_nodes_s": made,
        "rollout_1000_refused_s": refused,
        "rollout_allocator_rss_mb": peak,
        "rollout_enrolled_s": enrolled - began,
        "rollout_connected_s": connected - enrolled,
    }


async def _measure(place: Place, names: set[str], refusing: set[str]) -> tuple[float, float]:
    """How long each of the two creates takes, in seconds."""
    async with rpc_client(place.operator, name="bench") as asked:
        began = time.perf_counter()
        answer = await asked.ask(_network(MADE, "10.1.0.0/16"), timeout_s=WAIT_S)
        made = time.perf_counter() - began
        assert isinstance(answer, NetworkView), answer
        ready = {result.node for result in answer.nodes if result.state == "ready"}
        assert ready == names, f"{len(ready)} of {len(names)} nodes have the network"
        began = time.perf_counter()
        try:
            await asked.ask(_network(REFUSED, "10.2.0.0/16"), timeout_s=WAIT_S)
        except ServiceError as error:
            refused = time.perf_counter() - began
            _check(error, refusing)
        else:
            raise AssertionError("a network was made that nodes had refused")
    return made, refused


def _network(name: str, cidr: str) -> NetworkCreate:
    return new_network(name, cidr).model_copy(update={"deadline_s": WAIT_S})


def _check(error: ServiceError, refusing: set[str]) -> None:
    assert error.code == Code.ROLLOUT_FAILED, error
    failed = {told["node"]: told["error"]["code"] for told in error.fields["nodes"] if told["error"]}
    assert failed == dict.fromkeys(refusing, Code.UPLINK_MISSING), failed
