"""Whatever is asked in whatever order, without a database: no promise about addresses is broken."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from allocator.handlers import addresses as addresses_handler
from allocator.handlers import operating
from allocator.model import Pool
from broker.outcome import Delivery, Outcome
from schemas.pool import AddressRange
from tests.promised import state
from tests.promised.chronicle import Chronicle, told
from tests.promised.driving import V4, V6, Driving, subnet
from tests.promised.memory import MemoryAllocator, Store, exhausted

SEEDS = range(12)
BUDGET = settings(
    max_examples=10,  # from the 11th on, hypothesis mostly varies what it had
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
POOLS = (
    Pool(1, "default", "shared", (), 120),
    Pool(2, "web", "pinned", ("shop/web-*",), 120),
    Pool(3, "cart", "shared", ("shop/cart-*",), 120, allow_mac=True),
    Pool(4, "lab", "reserved", (), 120),
    Pool(5, "more", "pinned", (), 0, allow_mac=True),
)
CARVED = {
    "web": ("10.1.0.2-10.1.0.4", "fd00:1::2-fd00:1::4"),
    "cart": ("10.1.0.5-10.1.0.6", "fd00:1::5-fd00:1::6"),
    "lab": ("10.1.0.7", "fd00:1::7"),
    "more": ("10.1.0.8-10.1.0.10", "fd00:1::8-fd00:1::a"),
}


class InMemory(Driving):
    """The allocator's decisions over a database that is a dict."""

    @initialize(dual=st.booleans())
    def begin(self, dual: bool) -> None:
        self.store, self.allocator = Store(), None
        self.chronicles = {name: Chronicle() for name in ("prod", "side")}
        self.read = 0
        subnets = [subnet(V4, "10.1.0.1"), *([subnet(V6)] if dual else [])]
        self.store.add_network("prod", subnets, POOLS)
        self.store.add_network("side", [subnet("10.2.0.0/29")], [Pool(6, "default", "shared", (), 120)])
        for name, cidrs in (("prod", subnets), ("side", [subnet("10.2.0.0/29")])):
            for cidr in cidrs:
                self.book.networks[name].add_subnet(cidr)
        net = self.book.networks["prod"]
        for pool in POOLS[1:]:
            net.pools[pool.name] = state.Pool(
                pool.name, pool.policy, pool.owners, pool.cooldown_s, None, pool.allow_mac
            )
            for span in CARVED[pool.name][: 1 + dual]:
                self.move(span, "default", pool.name)

    def move(self, text: str, source: str, target: str) -> None:
        span = AddressRange.model_validate(text)
        net, network = self.book.networks["prod"], self.store.networks["prod"]
        ids = {pool.name: pool.id for pool in POOLS}
        self.store.move(network, span, ids[source], ids[target])
        for address in net.where:
            if address.version == span.first.version and span.first <= address <= span.last:
                net.where[address] = target

    def apply(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self.wait(1)
        return MemoryAllocator(self.store).apply(batch, self.book.now)

    def wait(self, seconds: int) -> None:
        self.book.now += timedelta(seconds=seconds)

    @rule(first=st.integers(2, 14), length=st.integers(1, 4), pool=st.sampled_from(("web", "cart", "more")))
    def a_pool_grows_or_shrinks(self, first: int, length: int, pool: str) -> None:
        self.flush()
        net = self.book.networks["prod"]
        span = [a for a in net.where if a.version == 4 and first <= int(a) % 256 < first + length]
        pools = {net.where[address] for address in span}
        if net.held(span) or pools not in ({"default"}, {pool}):
            return
        source, target = ("default", pool) if pools == {"default"} else (pool, "default")
        self.move(f"{span[0]}-{span[-1]}", source, target)
        self.check_stored()

    @precondition(lambda self: self.book.networks["prod"].families == [4])
    @rule()
    def the_network_gains_a_family(self) -> None:
        self.flush()
        network = self.store.networks["prod"]
        subnets = (*network.definition.subnets, subnet(V6))
        definition = network.definition.model_copy(update={"subnets": subnets})
        self.store.networks["prod"] = replace(network, definition=definition)
        self.store.add_ranges(network, [subnet(V6)])
        self.book.networks["prod"].add_subnet(subnet(V6))
        for pool in ("web", "cart", "lab", "more"):
            self.move(CARVED[pool][1], "default", pool)

    def check_stored(self) -> None:
        names = {network.id: name for name, network in self.store.networks.items()}
        rows = {(names[row.network_id], row.address): row for row in self.store.rows.values()}
        assert {key: self._told(row) for key, row in rows.items()} == {
            (net.name, row.address): told(row) for net, row in self.book.rows()
        }
        new, self.read = self.store.history[self.read :], len(self.store.history)
        fields = ("event", "address", "owner", "node", "attachment_id", "user_id")
        found = [(names[entry["network_id"]], *(entry[name] for name in fields)) for entry in new]
        assert sorted(map(str, found)) == sorted(map(str, self.book.events))
        self.book.events = []
        for name, chronicle in self.chronicles.items():
            chronicle.read(entry for entry in new if names[entry["network_id"]] == name)
            chronicle.check(self.book.networks[name])
        self._check_ranges()

    def _told(self, row) -> tuple[object, ...]:
        here = (row.node, row.container_id, row.attachment_id)
        return (row.state, row.since, row.owner, row.pinned_owner, row.ifname, row.mac, *here)

    def _check_ranges(self) -> None:
        ids = {(name, pool.name): pool.id for name, n in self.store.networks.items() for pool in n.pools}
        for net in self.book.networks.values():
            for address, pool in net.where.items():
                part = self.store.range_of(address)
                row = self.store.rows.get((self.store.networks[net.name].id, address))
                assert part.pool_id == ids[net.name, pool]
                below = part.cursor is None or address < part.cursor
                assert row is not None if below else address not in net.picked
                assert row is None or (row.range_id, row.pool_id) == (part.id, part.pool_id)
        for part in self.store.ranges:
            held = [row for row in self.store.rows.values() if row.range_id == part.id]
            assert part.used == sum(row.state != "free" for row in held)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The ledger knows everything: there is nothing to load."""
    for name in ("load", "load_supplies", "note_macs"):
        monkeypatch.setattr(operating, name, lambda *anything: None)
    for module in (operating, addresses_handler):
        monkeypatch.setattr(module, "explain_exhaustion", exhausted)
    yield


@pytest.mark.parametrize("number", SEEDS)
def test_no_order_of_requests_breaks_a_promise(number: int):
    run_state_machine_as_test(seed(number)(InMemory), settings=BUDGET)
