"""What this node must have: fetched from the allocator, made by the drivers, and known to ADD.

A round fetches all desired networks, page by page, and makes or removes each one that is not as desired yet.
Rounds run at start, when the bell rings (reconnect, nudge, a heartbeat's other digest, an ADD that misses its
network) and, with growing pauses, while the last one left something undone.

Every now and then, and at reconnect, all that was made is looked at and mended where somebody changed it.
That asks the allocator nothing.
"""

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

import structlog

from broker.threads import Threads
from node_worker import attachments, networks
from node_worker.asking import Ask, ask_for
from node_worker.attachments import State
from node_worker.clock import DatabaseClock
from node_worker.host import Host
from node_worker.journal import Journal
from node_worker.networks import NetworkRow, Outcome
from node_worker.pacing import Backoff, Bell
from node_worker.session import Session
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition
from schemas.node import DesiredNetwork, DesiredPage, NodeSync, desired_digest, peers_digest

_SYNC_S = 10.0
_WAIT_S = 5.0
_PAUSE_S = (0.5, 30.0)
REPAIR_S = 30.0
"""How often networks are looked at, in seconds."""

log = structlog.get_logger("moorage.node")


@dataclass(frozen=True, slots=True)
class ReadyNetwork:
    """A network that exists on this node, as of one version."""

    network: str
    version: int
    definition: NetworkDefinition


class Sync:
    """Keeps this node's networks as the allocator wants them. Only `run` changes anything."""

    def __init__(
        self,
        session: Session,
        ask: Ask,
        clock: DatabaseClock,
        journal: Journal,
        host: Host,
        threads: Threads,
        repair_s: float = REPAIR_S,
    ) -> None:
        """Networks are looked at every `repair_s` seconds."""
        self._repair_s = repair_s
        self._doubted = False
        self._session = session
        self._ask = ask
        self._clock = clock
        self._journal = journal
        self._host = host
        self._threads = threads
        self._bell = Bell()
        self.news = Bell()
        """Rung when there may be something to report."""
        self._ready: dict[str, ReadyNetwork] = {}
        self._refused: dict[str, ErrorBody] = {}
        self._present: Mapping[str, int] | None = None
        self._peers: frozenset[IPAddress] | None = None
        """Where networks with tunnels lead to; None where there is none of those."""
        self._address: IPAddress | None = None
        """Where tunnels to this node end, as it last said."""
        self._led_to: dict[str, frozenset[IPAddress] | None] = {}
        self._begun = 0
        self._finished = 0
        self._round_over = asyncio.Condition()
        self.mends = 0
        """How many looks found networks that somebody had changed."""

    def wake(self) -> None:
        """Begin a round as soon as the present one is over."""
        self._bell.ring()

    def doubt(self) -> None:
        """Look at all that was made, and begin a round."""
        self._doubted = True
        self._bell.ring()

    def ended(self, network: str) -> None:
        """An attachment of this network has ended: it may be the last that kept it from being removed."""
        if network in self._refused:
            self._bell.ring()

    @property
    def digest(self) -> str | None:
        """Of what the last round fetched; None before the first."""
        if self._present is None:
            return None
        peers = peers_digest(self._peers) if self._peers is not None else ""
        return desired_digest(self._present.items(), peers)

    async def run(self) -> None:
        """Until cancelled, keep in step. Needs no allocator to be there."""
        backoff, looked, wanted, done = Backoff(*_PAUSE_S), monotonic(), True, False
        while True:
            if self._doubted or monotonic() - looked >= self._repair_s:
                wanted = not await self._repair() or wanted
                looked = monotonic()
            if wanted:
                done = await self._round()
            if done:
                backoff.reset()
            left = max(0.0, looked + self._repair_s - monotonic())
            # What is refused is tried again, and holds up no look at all the others.
            rung = await self._bell.wait(left if done else min(left, backoff.delay()))
            wanted = rung or not done

    async def _repair(self) -> bool:
        """Make everything again that is there; whether no round is needed. What changes nothing is cheap."""
        self._doubted = False
        whole = True
        try:
            whole = await self._threads.run(self._host.address) == self._address
            before = await self._threads.run(self._host.network_links)
            for made in list(self._ready.values()):
                whole = await self._made_again(made) and whole
            after = await self._threads.run(self._host.network_links)
        except ServiceError as error:
            log.warning("networks cannot be looked at", node=self._session.node, error=str(error))
            return False
        if before != after:
            self.mends += 1
            names = sorted({link.name for link in before ^ after})
            log.warning("networks were mended: somebody had changed them", links=names)
        return whole

    async def _made_again(self, made: ReadyNetwork) -> bool:
        peers = self._peers_of(made.definition) or frozenset()
        try:
            await self._threads.run(self._ensured, made.network, made.definition, peers)
        except ServiceError as error:
            log.warning("a network cannot be mended", network=made.network, error=str(error))
            self._ready.pop(made.network, None)  # the next round tries, and reports it
            return False
        return True

    async def ready(self, name: str, version: int = 0) -> ReadyNetwork:
        """The network, in `version` or a newer one; what is missing is fetched, for at most 5 s.

        Raises ServiceError `network_unknown`, or `network_not_ready`, saying why.
        """
        found = self._find(name, version)
        if found is not None:
            return found
        wanted = self._begun + 1
        self._bell.ring()
        try:
            async with asyncio.timeout(_WAIT_S), self._round_over:
                await self._round_over.wait_for(lambda: self._finished >= wanted)
        except TimeoutError:
            raise _not_ready(name, "the allocator did not say in time how it should be") from None
        found = self._find(name, version)
        if found is None:
            raise self._missing(name, version)
        return found

    def _missing(self, name: str, version: int) -> ServiceError:
        if name in self._refused:
            error = self._refused[name]
            return _not_ready(name, f"{error.code}: {error.message}")
        if self._present is not None and name not in self._present:
            return ServiceError(
                Code.NETWORK_UNKNOWN,
                f"there is no network {name}: `moorage network list` shows those there are",
                network=name,
            )
        return _not_ready(name, f"version {version} has not arrived yet")

    @property
    def refused(self) -> list[str]:
        """The networks that could not be made or removed here, by name."""
        return sorted(self._refused)

    def check_fetched(self) -> None:
        """Raise ServiceError `unavailable` until the allocator has said which networks there are to be."""
        if self._present is None:
            raise ServiceError(
                Code.UNAVAILABLE,
                f"node {self._session.node} has yet to hear from the allocator which networks it is to have; "
                "it goes on by itself",
                node=self._session.node,
            )

    def check(self, name: str) -> None:
        """Raise ServiceError unless the network is known to exist here; nothing is fetched for it."""
        if self._find(name, 0) is None:
            raise self._missing(name, 0)

    def distrust(self, name: str) -> None:
        """Make the network again: something of it turned out to be missing."""
        self._ready.pop(name, None)
        self._bell.ring()

    def _find(self, name: str, version: int) -> ReadyNetwork | None:
        found = self._ready.get(name)
        return found if found is not None and found.version >= version else None

    async def _round(self) -> bool:
        """Fetch and apply everything; whether nothing was left undone."""
        self._begun += 1
        number = self._begun
        try:
            desired, peers = await self._fetch()
            rows = await self._journal.run(_noted, desired)
        except ServiceError as error:
            log.warning("sync waits", node=self._session.node, error=str(error))
            return False
        self._peers = peers
        self._present = {item.network: item.version for item in desired if item.state == "present"}
        outcomes = [await self._apply(row) for row in rows]
        self.news.ring()
        async with self._round_over:
            self._finished = number
            self._round_over.notify_all()
        return "error" not in outcomes

    async def _fetch(self) -> tuple[list[DesiredNetwork], frozenset[IPAddress] | None]:
        desired: list[DesiredNetwork] = []
        peers: frozenset[IPAddress] | None = None
        after: str | None = None
        self._address = address = await self._threads.run(self._host.address)
        while True:
            request = NodeSync(
                node=self._session.node,
                session=self._session.id,
                after=after,
                address=address,
                heard=self._session.heard,
            )
            page = await ask_for(DesiredPage, self._ask, request, _SYNC_S)
            self._clock.tell(page.database_time)
            self._session.hear(page.epoch, page.database_time)
            desired.extend(page.networks)
            if page.peers is not None:
                peers = frozenset(page.peers)
            if page.next is None:
                return desired, peers
            after = page.next

    async def _apply(self, row: NetworkRow) -> Outcome:
        """Make one network as desired and journal how that went."""
        known = self._ready.get(row.network)
        if (
            row.desired == "present"
            and known is not None
            and known.version == row.version
            and self._led_to.get(row.network) == self._peers_of(known.definition)
        ):
            return "ready"
        self._ready.pop(row.network, None)
        try:
            outcome = await (self._make(row) if row.desired == "present" else self._remove(row))
            error = None
            self._refused.pop(row.network, None)
        except ServiceError as refusal:
            outcome, error = "error", refusal.body()
        except Exception as failure:
            log.exception("a network could not be applied", network=row.network)
            told = f"the node worker failed ({type(failure).__name__}: {failure}); its log says where"
            outcome, error = "error", ErrorBody(code=Code.INTERNAL, message=told)
        if error is not None:
            self._refused[row.network] = error
            log.warning("network refused", network=row.network, version=row.version, error=error.message)
        try:
            await self._journal.run(networks.came_out, row, outcome, error)
        except ServiceError as failure:
            log.warning("sync waits", node=self._session.node, error=str(failure))
            return "error"
        return outcome

    async def _make(self, row: NetworkRow) -> Outcome:
        definition = row.definition
        if definition is None:
            raise ServiceError(Code.INTERNAL, f"network {row.network} came without a definition: sync again")
        if row.made is not None and row.made.driver != definition.driver:
            await self._remove(row)
        await self._journal.run(networks.making, row.network, definition)
        peers = self._peers_of(definition)
        await self._threads.run(self._ensured, row.network, definition, peers or frozenset())
        self._led_to[row.network] = peers
        self._ready[row.network] = ReadyNetwork(row.network, row.version, definition)
        return "ready"

    def _peers_of(self, definition: NetworkDefinition) -> frozenset[IPAddress] | None:
        return self._peers if definition.driver.type == "vxlan" else None

    def _ensured(self, network: str, definition: NetworkDefinition, peers: frozenset[IPAddress]) -> None:
        """Make the network, and put back on it what is already there. For a thread.

        That no pod could be added to it is said at the end: those that it has go on.
        """
        driver = self._host.driver(definition.driver.type)
        driver.ensure(network, definition, peers)
        known = self._journal.now(attachments.of_network, network)
        driver.mend(network, [row for row in known if row.driver == definition.driver.type])
        self._host.check_probing(definition)

    async def _remove(self, row: NetworkRow) -> Outcome:
        """Remove what was made. Refused while pods are on it: their endpoints would lose their network."""
        known = await self._journal.run(attachments.of_network, row.network)
        present = [item for item in known if item.state is not State.ALLOCATING]  # that has no endpoint yet
        if present:
            names = ", ".join(sorted({item.container_id[:13] for item in present})[:5])
            raise ServiceError(
                Code.LINK_CONFLICT,
                f"network {row.network} still has {len(present)} attachments on this node (containers "
                f"{names}); delete those pods, and it is removed here a moment later",
                retryable=True,
                network=row.network,
                attachments=len(present),
            )
        if row.made is not None:
            driver = self._host.driver(row.made.driver.type)
            await self._threads.run(driver.remove, row.network, row.made)
            await self._journal.run(networks.unmade, row.network)
        return "removed"


def _noted(connection: sqlite3.Connection, desired: list[DesiredNetwork]) -> list[NetworkRow]:
    for item in desired:
        networks.told(connection, item)
    networks.listed(connection, (item.network for item in desired))
    return networks.rows(connection)


def _not_ready(name: str, why: str) -> ServiceError:
    return ServiceError(
        Code.NETWORK_NOT_READY,
        f"network {name} is not ready on this node: {why}. See `moorage network show {name}`",
        network=name,
    )
