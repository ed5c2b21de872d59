"""The steps of the demo about networks: tunnels between nodes, a bridge that comes back, an end."""

import subprocess

from compose.demo.cast import Cast, eventually
from compose.demo.pods import Sandbox, address_of
from compose.demo.story import StepFailed, expect
from node_worker.plan import bridge_name
from schemas.network import NetworkCreate, NetworkDelete, NetworkList, NetworkPage, NetworkView

TUNNELS = "tunnels"
_MENDED_S = 20


def network_through_tunnels(cast: Cast) -> None:
    """A network is made on both nodes by vxlan, and pods reach one another through its tunnels."""
    body = {
        "request_id": "demo-tunnels",
        "network": TUNNELS,
        "driver": {"type": "vxlan", "vni": 88},
        "subnets": [{"cidr": "10.88.0.0/24"}],
    }
    made = cast.ask(NetworkCreate.model_validate(body), NetworkView)
    states = {result.node: result.state for result in made.nodes}
    expect(set(states.values()) == {"ready"} and len(states) == 2, f"not ready everywhere: {states}")
    cast.story.tell(f"{made.network} 10.88.0.0/24, MTU {made.definition.mtu}: ready on {', '.join(states)}")
    for owner, node in (("bank/api-0", "node-1"), ("bank/api-1", "node-2")):
        answer = cast.sandbox(owner, node, TUNNELS).start()
        cast.story.tell(f"ADD {owner} on {node}: {address_of(answer)} in {answer.took_ms:.0f} ms")
    one = cast.sandboxes["bank/api-0"]
    cast.story.tell(f"bank/api-0 -> 10.88.0.2 on node-2: {one.ping('10.88.0.2'):.2f} ms")


def deleted_bridge_comes_back(cast: Cast) -> None:
    """Somebody deletes the network's bridge on node-1: it comes back, with its pods on it."""
    one, bridge = cast.sandboxes["bank/api-0"], bridge_name(TUNNELS)
    node = next(node for node in cast.stack.nodes if node.name == "node-1")
    command = ["nsenter", f"--net={node.host.path}", "ip", "link", "delete", bridge]
    subprocess.run(command, check=True, timeout=10)
    cast.story.tell(f"ip link delete {bridge}")
    took = eventually(lambda: _reaches(one, "10.88.0.2"), "the pod's way back", _MENDED_S)
    cast.story.tell(f"bank/api-0 -> 10.88.0.2 on node-2 again: {took:.2f} ms")


def _reaches(pod: Sandbox, address: str) -> float | None:
    try:
        return pod.ping(address)
    except StepFailed:
        return None


def network_is_deleted(cast: Cast) -> None:
    """The network is deleted once nobody is on it, from both nodes."""
    for owner in ("bank/api-0", "bank/api-1"):
        cast.sandboxes[owner].stop()
    eventually(lambda: _unused(cast), "the release of its addresses")
    request = NetworkDelete(request_id="demo-delete", network=TUNNELS)
    gone = cast.ask(request, NetworkView)
    states = {result.node: result.state for result in gone.nodes}
    expect(gone.state == "deleted", f"it is {gone.state}: {states}")
    cast.story.tell(f"{TUNNELS}: {', '.join(f'{state} from {node}' for node, state in states.items())}")


def _unused(cast: Cast) -> bool | None:
    found = cast.ask(NetworkList(), NetworkPage).networks
    return True if all(view.used == 0 for view in found if view.network == TUNNELS) else None


STEPS = (network_through_tunnels, deleted_bridge_comes_back, network_is_deleted)
