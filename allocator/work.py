"""One unit of work: a transaction over a batch of requests, its locks, and what follows its commit."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from allocator.ledger import Ledger
from allocator.memory import Memory, Remembered
from allocator.model import Allocation, Network, next_number
from allocator.store import allocations, epochs, history, ledger, networks, premises
from allocator.store.networks import Locked
from allocator.store.premises import Premise
from allocator.store.reads import Reads
from allocator.store.writes import Writes
from schemas.errors import Code, ServiceError
from schemas.fields import SYSTEM_NETWORK
from schemas.history import EventName


@dataclass(frozen=True, slots=True)
class Notice:
    """A nudge for one node, sent after the commit. Its loss only delays. No network: sync everything."""

    node: str
    network: str | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit leaves to be done: nodes to nudge, networks whose history goes to subscribers.

    And what the next batch may go on from.
    """

    notices: tuple[Notice, ...] = ()
    networks: frozenset[int] = frozenset()
    remembered: tuple[Remembered, ...] = ()
    answered: bool = False
    """Whether a job was given its answer, which somebody may wait for."""

    def tell(self, after_commit: "AfterCommit") -> None:
        """Hand it over, if there is anything."""
        if self.notices or self.networks or self.answered:
            after_commit(self.notices, self.networks, answered=self.answered)


class AfterCommit(Protocol):
    """Who is told of each commit."""

    def __call__(
        self, notices: Sequence[Notice], touched: Collection[int] = (), *, answered: bool = False
    ) -> None:
        """`notices` are for nodes; `touched` are the networks with new history; `answered`: a job has its
        answer. Called in any thread.
        """


class Unread(Exception):
    """Something has to be read that was not presumed."""


class Work:
    """What the handlers of one transaction share. Nothing of it outlives a rollback.

    Changes of addresses gather in the ledger until `flush`; history rows are numbered as they are recorded
    and written together by `finish`.
    """

    def __init__(self, connection: Connection | None, memory: Memory | None = None) -> None:
        """Without a connection nothing can be read but what is presumed."""
        self._connection = connection
        self._premise: Premise | None = None
        self._memory = memory or Memory()
        self.ledger = Ledger()
        self.notices: list[Notice] = []
        self.answered = False
        self.actor: str | None = None
        """Whom the sender of the present request claims to have asked for."""
        self._networks: dict[str, Network | None] = {}
        self._seqs: dict[int, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._now: datetime | None = None
        self._epoch: int | None = None
        self._paused: bool | None = None
        self._system: int | None = None

    @classmethod
    def presuming(cls, premise: Premise, remembered: Remembered) -> "Work":
        """For one network as it is remembered; nothing else is known. `settle` has the premise checked."""
        work = cls(None)
        work._premise = premise
        work._now, work._epoch, work._paused = premise.now, premise.epoch, False
        work._seqs[premise.network_id] = premise.seq
        work._remember(remembered)
        return work

    @property
    def connection(self) -> Connection:
        """The transaction. Raises `Unread` where there is none."""
        if self._connection is None:
            raise Unread
        return self._connection

    @property
    def now(self) -> datetime:
        """The database's time, the only one that counts: the same for the whole transaction."""
        if self._now is None:
            self._now = networks.database_time(self.connection)
        return self._now

    @property
    def paused(self) -> bool:
        """Whether new addresses are withheld because the database was restored from a backup."""
        if self._paused is None:
            self._paused = epochs.paused(self.connection)
        return self._paused

    @property
    def epoch(self) -> int:
        """The database's epoch."""
        if self._epoch is None:
            self._epoch = epochs.current(self.connection)
        return self._epoch

    def forget_epoch(self) -> None:
        """Read the epoch, and whether the allocator is paused, anew: this transaction changed them."""
        self._epoch = self._paused = None

    def lock(self, names: Collection[str]) -> None:
        """Lock and read these networks, as far as they exist; those locked before stay as they are."""
        reads = Reads()
        locked = self.ask_lock(names, reads)
        reads.send(self.connection)
        locked()

    def ask_lock(self, names: Collection[str], reads: Reads) -> Callable[[], None]:
        """As `lock`, by `reads`, which may ask for more behind it. To be called once they were sent."""
        missing = [name for name in names if name not in self._networks]
        if not missing:
            return lambda: None
        found = networks.lock(reads, missing)
        return lambda: self._locked(missing, found.rows)

    def expected_ids(self, names: Collection[str]) -> dict[str, int]:
        """The ids of these networks, by name: of those that are locked, or were served before.

        Which id a name has can change where a backup is restored: only the lock tells for certain.
        """
        found: dict[str, int] = {}
        for name in names:
            network = self._networks.get(name)
            network_id = network.id if network is not None else self._memory.id_of(name)
            if network_id is not None:
                found[name] = network_id
        return found

    def _locked(self, missing: Collection[str], rows: Sequence[Locked]) -> None:
        if rows:
            first = rows[0]
            self._now = self._now or first.now
            self._epoch, self._paused = first.epoch, first.paused
            self._memory.hear(first.now, first.epoch, paused=first.paused)
        self._networks.update(dict.fromkeys(missing))
        unknown = [row.id for row in rows if not self._recall(row)]
        for network in networks.read(self.connection, unknown) if unknown else ():
            self._networks[network.name] = network

    def _recall(self, row: Locked) -> bool:
        """Whether the network need not be read: it is as the last batch left it, or no network at all."""
        self._seqs.setdefault(row.id, row.seq)
        if row.state == "system":
            return True
        remembered = self._memory.take(row.id, row.seq)
        if remembered is None:
            return False
        self._remember(remembered)
        return True

    def _remember(self, remembered: Remembered) -> None:
        self._networks[remembered.network.name] = remembered.network
        for key, supply in remembered.supplies.items():
            self.ledger.offer(*key, supply)

    def network(self, name: str) -> Network:
        """The network, its row locked until the commit. Raises `network_unknown`."""
        found = self.find_network(name)
        if found is None or found.state == "deleted":
            raise ServiceError(
                Code.NETWORK_UNKNOWN,
                f"there is no network {name}; `moorage network list` shows those there are, "
                "`moorage network create` makes one",
                network=name,
            )
        return found

    def find_network(self, name: str) -> Network | None:
        """The network or its tombstone, its row locked until the commit; None if the name is new."""
        if name not in self._networks:
            self.lock([name])
        return self._networks[name]

    def by_id(self, network_id: int) -> Network:
        """A network that was locked before."""
        return next(found for found in self._networks.values() if found and found.id == network_id)

    def reload(self, name: str) -> Network:
        """The network again, after it or its pools changed."""
        self.forget(name)
        return self.network(name)

    def forget(self, name: str) -> None:
        """Read the network anew when it is next asked for."""
        self._networks.pop(name, None)

    def begin_history(self, network_id: int, seq: int) -> None:
        """Start the history of a network made in this transaction."""
        self._seqs[network_id] = seq

    def next_version(self, previous: int) -> int:
        """A network version that was never given out before."""
        return next_number(previous, self.epoch)

    def record(self, network_id: int, event: EventName, user_id: str, **fields: Any) -> None:
        """One history row, numbered in the order of this network."""
        seq = next_number(self._seqs[network_id], self.epoch)
        self._seqs[network_id] = seq
        row = {
            "network_id": network_id,
            "seq": seq,
            "at": self.now,
            "event": event,
            "user_id": user_id,
            "pool": None,
            "address": None,
            "owner": None,
            "mac": None,
            "ifname": None,
            "node": None,
            "container_id": None,
            "attachment_id": None,
            "actor": self.actor,
            "details": {},
        }
        row.update(fields)
        self._rows.append(row)

    def release_all(self, network: Network, user_id: str, details: Mapping[str, Any]) -> None:
        """Take every address of a network from whoever holds it, with a history row each."""
        self.flush()
        count = sum(allocations.count_held(self.connection, network.id).values())
        if count:
            before = next_number(self._seqs[network.id], self.epoch) - 1
            self._seqs[network.id] = before + count
            history.append_released(
                self.connection,
                network.id,
                before,
                now=self.now,
                user_id=user_id,
                actor=self.actor,
                details=details,
            )
        allocations.forget_all(self.connection, network.id)

    def record_address(
        self, event: EventName, row: Allocation, user_id: str, pool: str, **fields: Any
    ) -> None:
        """One history row about one address: who held or holds it, where, as what."""
        self.record(
            row.network_id,
            event,
            user_id,
            pool=pool,
            address=row.address,
            owner=row.owner,
            mac=row.mac,
            ifname=row.ifname,
            node=row.node,
            container_id=row.container_id,
            attachment_id=row.attachment_id,
            **fields,
        )

    def record_node(self, event: EventName, node: str, user_id: str, **fields: Any) -> None:
        """One history row about a node, in the history of the reserved network."""
        self.record(self.lock_system(), event, user_id, node=node, **fields)

    def lock_system(self) -> int:
        """Lock the reserved network, whose history tells of nodes; its id."""
        if self._system is None:
            reads = Reads()
            found = networks.lock(reads, [SYSTEM_NETWORK])
            reads.send(self.connection)
            row = found.rows[0]
            self._system = row.id
            self._seqs[self._system] = row.seq
        return self._system

    def flush(self) -> None:
        """Write what the ledger gathered, so that statements see it, and begin another.

        History is written last: what attachments came to in this transaction goes on in the new one.
        """
        writes = Writes()
        self._write_ledger(writes, keep_supplies=False)
        writes.send(self.connection)

    def _write_ledger(self, writes: Writes, *, keep_supplies: bool) -> None:
        ledger.write(self.ledger, writes)
        supplies = self.ledger.settled_supplies() if keep_supplies else {}
        ended, replaced = self.ledger.ended, self.ledger.replaced
        self.ledger = Ledger()
        self.ledger.ended, self.ledger.replaced = ended, replaced
        for key, supply in supplies.items():
            self.ledger.offer(*key, supply)

    def finish(self, *, keep_supplies: bool = False) -> Committed:
        """Write all that is still to be written, and commit. The last thing of a transaction.

        With `keep_supplies` the next batch may go on from here: only where nothing but the ledger and the
        history was written.
        """
        writes, committed = self.settle(keep_supplies=keep_supplies)
        writes.send(self.connection)
        return committed

    @property
    def has_changes(self) -> bool:
        """Whether something happened that history or a node is to be told of."""
        return bool(self._rows or self.notices or self.answered)

    def settle(self, *, keep_supplies: bool) -> tuple[Writes, Committed]:
        """As `finish`, but leaves it to others to send what is to be written, its COMMIT included."""
        writes = Writes()
        if self._premise is not None:
            premises.demand(writes, self._premise, self._seqs[self._premise.network_id])
        self._write_ledger(writes, keep_supplies=keep_supplies)
        history.append(writes, self._rows)
        touched = frozenset(row["network_id"] for row in self._rows)
        if self._premise is None:
            for network_id in touched:
                networks.set_seq(writes, network_id, self._seqs[network_id])
        remembered = tuple(self._remembered() if keep_supplies else ())
        writes.commit()
        return writes, Committed(tuple(self.notices), touched, remembered, self.answered)

    def _remembered(self) -> Iterator[Remembered]:
        for network in filter(None, self._networks.values()):
            keys = ((pool.id, family) for pool in network.pools for family in network.families)
            found = {key: supply for key in keys if (supply := self.ledger.supply(*key)) is not None}
            yield Remembered(self._seqs[network.id], network, found)
