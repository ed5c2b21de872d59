"""The steps of the demo, in order. Each is one promise, seen to hold."""

from concurrent.futures import ThreadPoolExecutor

from rich.table import Table

from compose.asking import wait_for_nodes
from compose.demo.cast import NETWORK, Cast, eventually
from compose.demo.pods import address_of, mac_of
from compose.demo.story import expect
from compose.hosts import UPLINK
from schemas.address import AddressRelease, AddressView, Released
from schemas.history import HistoryList, HistoryPage
from schemas.network import NetworkCreate, NetworkView
from schemas.pool import PoolCreate, PoolView

SUBNET = "10.77.0.0/24"
FIRST, LAST = "10.77.0.10", "10.77.0.19"


def nodes_are_ready(cast: Cast) -> None:
    """RabbitMQ, the database, the allocator and both nodes run."""
    names = [node.name for node in cast.stack.nodes]
    wait_for_nodes(cast.stack.console, names, cast.stack.check)
    cast.story.tell(f"ready: {', '.join(names)}, each a network namespace that stands for a machine")


def network_on_both_nodes(cast: Cast) -> None:
    """A network is created on both nodes by one message."""
    body = {
        "request_id": "demo-network",
        "network": NETWORK,
        "driver": {"type": "bridge", "uplink": UPLINK},
        "subnets": [{"cidr": SUBNET, "gateway": "10.77.0.1"}],
    }
    made = cast.ask(NetworkCreate.model_validate(body), NetworkView)
    states = {result.node: result.state for result in made.nodes}
    expect(set(states.values()) == {"ready"} and len(states) == 2, f"not ready everywhere: {states}")
    cast.story.tell(f"{made.network} {SUBNET}: {', '.join(f'{n} {s}' for n, s in states.items())}")


def pinned_pool(cast: Cast) -> None:
    """A pinned pool is carved out of it for shop/web-*."""
    body = {
        "request_id": "demo-pool",
        "network": NETWORK,
        "pool": "web",
        "policy": "pinned",
        "owners": ["shop/web-*"],
        "ranges": [f"{FIRST}-{LAST}"],
    }
    made = cast.ask(PoolCreate.model_validate(body), PoolView)
    expect(made.total == 10, f"the pool has {made.total} addresses, not 10")
    cast.story.tell(f"pool {made.pool}: {FIRST}-{LAST}, for {', '.join(made.owners)} alone")


def attach_two_pods(cast: Cast) -> None:
    """shop/web-0 and shop/web-1 are attached on different nodes through the CNI executable."""
    for owner, node, expected in (("shop/web-0", "node-1", FIRST), ("shop/web-1", "node-2", "10.77.0.11")):
        answer = cast.sandbox(owner, node).start()
        address = address_of(answer)
        expect(address == expected, f"{owner} got {address} instead of {expected}")
        cast.story.tell(f"ADD {owner} on {node}: {address} {mac_of(answer)} in {answer.took_ms:.0f} ms")


def pods_reach_one_another(cast: Cast) -> None:
    """They ping each other from node to node."""
    for source, target in (("shop/web-0", "10.77.0.11"), ("shop/web-1", FIRST)):
        cast.story.tell(f"{source} -> {target}: {cast.sandboxes[source].ping(target):.2f} ms")


def comes_back_elsewhere(cast: Cast) -> None:
    """shop/web-0 is deleted and comes back on the other node: same IP, same MAC."""
    old = cast.sandboxes["shop/web-0"]
    before = cast.show(FIRST)
    removed = old.detach()
    old.remove()
    cast.story.tell(f"DEL on {old.node} in {removed.took_ms:.0f} ms; {FIRST} is {cast.show(FIRST).state}")
    cast.sandboxes["old shop/web-0"] = old
    answer = cast.sandbox("shop/web-0", "node-2").start()
    expect(address_of(answer) == FIRST, f"it came back with {address_of(answer)}")
    expect(mac_of(answer) == before.mac, f"its MAC was {before.mac} and is now {mac_of(answer)}")
    cast.story.tell(f"ADD on node-2: {FIRST} {mac_of(answer)} in {answer.took_ms:.0f} ms, as before")


def peer_reaches_it(cast: Cast) -> None:
    """Its peer reaches it where it is now, and so does a pod on the node it left."""
    cast.story.tell(f"shop/web-1 -> {FIRST}: {cast.sandboxes['shop/web-1'].ping(FIRST):.2f} ms")
    cast.sandbox("shop/web-2", "node-1").start()
    cast.story.tell(f"shop/web-2 on node-1 -> {FIRST}: {cast.sandboxes['shop/web-2'].ping(FIRST):.2f} ms")


def late_delete_harms_nobody(cast: Cast) -> None:
    """The old sandbox's late DEL arrives, and a replayed release: nothing happens to the new one."""
    old, before = cast.sandboxes["old shop/web-0"], cast.show(FIRST)
    old.detach()
    first = cast.ask(HistoryList.model_validate({"network": NETWORK, "address": FIRST}), HistoryPage).rows[0]
    replay = AddressRelease(
        network=NETWORK,
        node=old.node,
        container_id=old.container_id,
        ifname="eth0",
        attachment_id=first.attachment_id,
    )
    freed = cast.ask(replay, Released).addresses
    expect(freed == (), f"the replayed release freed {freed}")
    after = cast.show(FIRST)
    expect(after == before, f"the address changed from {before} to {after}")
    cast.story.tell(f"{FIRST} is still {after.state} to {after.owner} on {after.node}")
    cast.story.tell(f"shop/web-1 -> {FIRST}: {cast.sandboxes['shop/web-1'].ping(FIRST):.2f} ms")


def allocator_killed(cast: Cast) -> None:
    """The allocator is killed with SIGKILL while a DEL and an ADD come: nothing is lost."""
    allocator, leaving = cast.stack.allocator, cast.sandboxes["shop/web-2"]
    held = {a: cast.show(a) for a in (FIRST, "10.77.0.11")}
    pid = allocator.pid
    allocator.kill()
    cast.story.tell(f"allocator pid {pid} killed")
    answer = leaving.detach()
    leaving.remove()
    cast.story.tell(
        f"DEL shop/web-2 without an allocator: done in {answer.took_ms:.0f} ms, its release waits"
    )
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(cast.sandbox("shop/web-3", "node-1").start)
        allocator.start()
        cast.story.tell(f"allocator started again as pid {allocator.pid}")
        added = coming.result(timeout=60)
    expect(address_of(added) == "10.77.0.13", f"shop/web-3 got {address_of(added)}")
    cast.story.tell(f"ADD shop/web-3, asked for meanwhile: {address_of(added)}")
    eventually(lambda: _waiting(cast, "10.77.0.12"), "the release of shop/web-2's address")
    expect(all(cast.show(a) == view for a, view in held.items()), "an address changed its holder")
    cast.story.tell("10.77.0.12 was released; the others are held as before")


def _waiting(cast: Cast, address: str) -> AddressView | None:
    view = cast.show(address)
    return view if view.state == "waiting" else None


def history_tells(cast: Cast) -> None:
    """The history shows who held the address, when, and where."""
    rows = cast.ask(HistoryList.model_validate({"network": NETWORK, "address": FIRST}), HistoryPage).rows
    table = Table("when (UTC)", "what", "owner", "node", "container", "asked by")
    for row in rows:
        container = (row.container_id or "")[:12]
        when = f"{row.at:%H:%M:%S.%f}"[:-3]
        table.add_row(when, row.event, row.owner, row.node, container, row.user_id)
    cast.story.show(table)
    seen = [(row.event, row.node) for row in rows]
    expected = [
        ("address.attached", "node-1"),
        ("address.waiting", "node-1"),
        ("address.attached", "node-2"),
    ]
    expect(seen == expected, f"the history says {seen}")


STEPS = (
    nodes_are_ready,
    network_on_both_nodes,
    pinned_pool,
    attach_two_pods,
    pods_reach_one_another,
    comes_back_elsewhere,
    peer_reaches_it,
    late_delete_harms_nobody,
    allocator_killed,
)

LAST_STEPS = (history_tells,)
