"""An allocator whose database is a dict: the same decisions, and not a line of SQL."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from allocator.handlers import addresses, operating
from allocator.ledger import Ledger
from allocator.model import Allocation, Network, Pool, Range
from allocator.ranges import carve, initial_ranges
from allocator.supply import Place, Supply, fresh_places
from broker.outcome import Delivery, Outcome, Refused, Reply
from schemas.address import (
    AddressAllocate,
    AddressQuarantine,
    AddressRebind,
    AddressRelease,
    AddressReleaseByOperator,
    AddressReserve,
)
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.message import Administrative, Request
from schemas.network import NetworkDefinition, Subnet
from schemas.pool import AddressRange

IN_BULK: dict[type[Request], Callable[..., Outcome]] = {
    AddressAllocate: addresses.allocate,
    AddressRelease: addresses.release,
    AddressQuarantine: addresses.quarantine,
}
ONE_BY_ONE: dict[type[Request], Callable[..., Any]] = {
    AddressReserve: operating.reserve,
    AddressRebind: operating.rebind,
    AddressReleaseByOperator: operating.release,
}


def exhausted(work: Any, network: Network, pool: Pool, family: int) -> ServiceError:
    """In place of the figures that the database would be asked for."""
    return ServiceError(Code.EXHAUSTED, f"pool {pool.name} of {network.name} has no IPv{family}")


@dataclass
class Store:
    """All rows, ranges and ends of attachments."""

    networks: dict[str, Network] = field(default_factory=dict)
    ranges: list[Range] = field(default_factory=list)
    rows: dict[tuple[int, IPAddress], Allocation] = field(default_factory=dict)
    ended: set[Any] = field(default_factory=set)
    replaced: dict[Any, Any] = field(default_factory=dict)
    answers: dict[str, tuple[Request, Outcome]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    paused: bool = False

    def add_network(self, name: str, subnets: Sequence[Subnet], pools: Sequence[Pool]) -> None:
        definition = NetworkDefinition(subnets=tuple(subnets))
        self.networks[name] = Network(len(self.networks) + 1, name, "active", 1, definition, tuple(pools))
        self.add_ranges(self.networks[name], subnets)

    def add_ranges(self, network: Network, subnets: Sequence[Subnet]) -> None:
        default = next(pool.id for pool in network.pools if pool.is_default)
        for subnet in subnets:
            self.ranges += initial_ranges(subnet, default)
        self._number()

    def _number(self) -> None:
        last = max((part.id or 0 for part in self.ranges), default=0)
        for index, part in enumerate(self.ranges):
            if part.id is None:
                last += 1
                self.ranges[index] = replace(part, id=last)

    def move(self, network: Network, span: AddressRange, source: int, target: int) -> None:
        """Carve a span out of one pool for another, as resizing does. Raises `range_invalid`."""
        own = [part for part in self.ranges if part.pool_id == source]
        others = [part for part in self.ranges if part.pool_id != source]
        self.ranges = others + carve(own, [span], target)
        self._number()
        for key, row in self.rows.items():
            if row.network_id == network.id:
                part = self.range_of(row.address)
                self.rows[key] = replace(row, range_id=part.id or 0, pool_id=part.pool_id)
        for index, part in enumerate(self.ranges):
            used = sum(row.state != "free" for row in self.rows.values() if row.range_id == part.id)
            self.ranges[index] = replace(part, used=used)

    def range_of(self, address: IPAddress) -> Range:
        found = [p for p in self.ranges if p.family == address.version and p.first <= address <= p.last]
        assert len(found) == 1, (address, found)
        return found[0]

    def ledger(self) -> Ledger:
        """One that knows everything."""
        ledger = Ledger()
        ledger.load(self.rows.values())
        ledger.ended, ledger.replaced = set(self.ended), dict(self.replaced)
        for network in self.networks.values():
            for pool in network.pools:
                for family in network.families:
                    self._offer(ledger, network, pool, family)
        return ledger

    def _offer(self, ledger: Ledger, network: Network, pool: Pool, family: int) -> None:
        rows = [row for row in self.rows.values() if row.pool_id == pool.id and row.family == family]
        free = sorted((row for row in rows if row.state == "free"), key=lambda row: row.since)
        fresh: list[Place] = []
        for part in sorted(self.ranges, key=lambda part: int(part.first)):
            if part.pool_id == pool.id and part.family == family:
                taken = [row.address for row in rows]
                if part.cursor is not None:
                    fresh += fresh_places(network.id, part, part.cursor, part.last, taken, 99)
                for number in range(int(part.first), int(part.last) + 1):
                    key = (network.id, type(part.first)(number))
                    if key not in self.rows:
                        ledger.note_blank(Place(network.id, key[1], pool.id, part.id or 0))
        ledger.offer(pool.id, family, Supply(deque(free), deque(fresh), all_free=True, all_fresh=True))

    def write(self, ledger: Ledger) -> None:
        """Write what a ledger gathered, each unique key a guard."""
        for before, after in ledger.changed():
            key = (before.network_id, before.address)
            assert self.rows[key] == before, "not what was read"
            self.rows[key] = after
        for row in ledger.added():
            key = (row.network_id, row.address)
            assert key not in self.rows
            self.rows[key] = replace(row, id=len(self.rows) + 1)
        for change in ledger.ranges():
            index = next(i for i, part in enumerate(self.ranges) if part.id == change.range_id)
            part = self.ranges[index]
            cursor = change.cursor if change.moves_cursor else part.cursor
            self.ranges[index] = replace(part, used=part.used + change.used, cursor=cursor)
        self.ended |= ledger.ended
        self.replaced |= ledger.replaced
        self._check_unique()

    def _check_unique(self) -> None:
        rows = self.rows.values()
        keys = [
            *((r.network_id, r.pinned_owner, r.ifname, r.family) for r in rows if r.pinned_owner),
            *((r.attachment_id, r.family) for r in rows if r.attachment_id),
            *((r.network_id, r.family, r.mac) for r in rows if r.mac),
        ]
        assert len(set(keys)) == len(keys), keys


class MemoryWork:
    """What handlers get in place of `allocator.work.Work`."""

    connection = None

    def __init__(self, store: Store, now: datetime) -> None:
        self.store, self.now, self.paused = store, now, store.paused
        self.ledger = store.ledger()
        self.notices: list[Any] = []

    def find_network(self, name: str) -> Network | None:
        return self.store.networks.get(name)

    def network(self, name: str) -> Network:
        found = self.find_network(name)
        if found is None:
            raise ServiceError(Code.NETWORK_UNKNOWN, name)
        return found

    def by_id(self, network_id: int) -> Network:
        return next(network for network in self.store.networks.values() if network.id == network_id)

    def record(self, network_id: int, event: str, user_id: str, **fields: Any) -> None:
        blank = dict.fromkeys(
            ("address", "owner", "mac", "ifname", "node", "container_id", "attachment_id", "pool")
        )
        seq = len(self.store.history) + 1
        row = {"network_id": network_id, "seq": seq, "event": event, "user_id": user_id, "details": {}}
        self.store.history.append(blank | row | fields)

    def record_address(self, event: str, row: Allocation, user_id: str, pool: str, **fields: Any) -> None:
        names = ("address", "owner", "mac", "ifname", "node", "container_id", "attachment_id")
        about = {name: getattr(row, name) for name in names}
        self.record(row.network_id, event, user_id, pool=pool, **about, **fields)

    def flush(self) -> None:
        self.store.write(self.ledger)
        self.ledger = self.store.ledger()


class MemoryAllocator:
    """Batches in, outcomes out."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, batch: Sequence[Delivery], now: datetime) -> list[Outcome]:
        work = MemoryWork(self._store, now)
        outcomes = [self._one(delivery, work) for delivery in batch]
        work.flush()
        return outcomes

    def _one(self, delivery: Delivery, work: MemoryWork) -> Outcome:
        request = delivery.request
        try:
            if isinstance(request, Administrative):
                return self._once(request, delivery, work)
            return IN_BULK[type(request)](request, delivery, work)
        except ServiceError as error:
            return Refused(error)

    def _once(self, request: Administrative, delivery: Delivery, work: MemoryWork) -> Outcome:
        network = work.network(request.network)  # type: ignore[attr-defined]
        known = self._store.answers.get(request.request_id)
        if known is not None:
            if known[0] != request.model_copy(update={"actor": known[0].actor}):  # type: ignore[attr-defined]
                return Refused(ServiceError(Code.REQUEST_CONFLICT, request.request_id))
            return known[1]
        work.flush()
        outcome: Outcome
        try:
            outcome = Reply(ONE_BY_ONE[type(request)](request, delivery, work, network))
        except ServiceError as error:
            outcome = Refused(error)
        if isinstance(outcome, Reply) or not outcome.error.retryable:
            self._store.answers[request.request_id] = (request, outcome)
        work.flush()
        return outcome
