"""Whether runtime, kernel, journals and database say the same once all is quiet. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.soak.ledger import Violation
from bench.soak.sandbox import Told
from bench.soak.sightings import Look
from schemas.fields import IPAddress


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that its runtime has, as it was told."""

    owner: str
    network: str
    node: str
    container_id: str
    told: Told


@dataclass(frozen=True, slots=True)
class Record:
    """What a journal or the database has of one attachment, which is `attached` in both when all is well."""

    owner: str
    network: str
    node: str
    container_id: str
    attachment_id: str
    host_link: str
    state: str
    addresses: frozenset[IPAddress]
    mac: str | None


@dataclass(frozen=True)
class Snapshot:
    """All of it, read as closely together as can be."""

    pods: tuple[Pod, ...] = ()
    looks: Mapping[str, Look] = field(default_factory=dict)
    """By container."""
    host_links: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The hosts' ends of endpoints, by node."""
    bridges: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The links that networks are made of, by node."""
    networks: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Those links that there must be, by node."""
    journals: Mapping[str, tuple[Record, ...]] = field(default_factory=dict)
    """By node."""
    owed: Mapping[str, int] = field(default_factory=dict)
    """Releases that a journal has and that were not answered, by node."""
    database: tuple[Record, ...] = ()
    """The attached rows."""
    unanswered: tuple[str, ...] = ()
    """Administrative requests without an answer, or whose waiters were not told."""
    queues: Mapping[str, int] = field(default_factory=dict)
    """How many messages there are in each."""


def differences(snapshot: Snapshot) -> list[Violation]:
    """All that does not agree, or is left over."""
    return [
        *_pods(snapshot),
        *_leaks(snapshot),
        *(
            Violation("a release was never answered", f"{node} owes {count}")
            for node, count in snapshot.owed.items()
            if count
        ),
        *(Violation("an accepted request has no answer", request) for request in snapshot.unanswered),
        *(
            Violation("a queue is not empty", f"{queue}: {count}")
            for queue, count in snapshot.queues.items()
            if count
        ),
    ]


def _pods(snapshot: Snapshot) -> Iterable[Violation]:
    journaled = {row.container_id: row for rows in snapshot.journals.values() for row in rows}
    stored = {row.container_id: row for row in snapshot.database}
    for pod in snapshot.pods:
        look = snapshot.looks.get(pod.container_id)
        if look is None or (look.live, look.mac) != (pod.told.addresses, pod.told.mac):
            yield Violation("kernel and runtime differ", f"{_shown(pod)}; kernel: {look or 'no namespace'}")
        for name, row in (
            ("journal", journaled.get(pod.container_id)),
            ("database", stored.get(pod.container_id)),
        ):
            if row is None or _facts(row) != _expected(pod):
                yield Violation(f"{name} and runtime differ", f"{_shown(pod)}; {name}: {row or 'nothing'}")
        ours, theirs = journaled.get(pod.container_id), stored.get(pod.container_id)
        if ours is not None and theirs is not None and ours.attachment_id != theirs.attachment_id:
            yield Violation("journal and database differ", f"{ours}; {theirs}")
        if ours is not None and ours.host_link not in snapshot.host_links.get(pod.node, ()):
            yield Violation("kernel and journal differ", f"{ours}: there is no link {ours.host_link}")


def _leaks(snapshot: Snapshot) -> Iterable[Violation]:
    running = {pod.container_id for pod in snapshot.pods}
    for name, rows in (("the database", snapshot.database), *snapshot.journals.items()):
        for row in rows:
            if row.container_id not in running:
                yield Violation("an attachment without a pod is left", f"{name}: {row}")
    journaled = {row.host_link for rows in snapshot.journals.values() for row in rows}
    for node, links in snapshot.host_links.items():
        for link in sorted(links - journaled):
            yield Violation("a link without a pod is left", f"{node}: {link}")
    for node, wanted in snapshot.networks.items():
        there = snapshot.bridges.get(node, frozenset())
        for link in sorted(there ^ wanted):
            what = "is left of a network that is gone" if link in there else "of a network is missing"
            yield Violation("a node's networks are not as they must be", f"{node}: {link} {what}")


def _facts(row: Record) -> tuple[object, ...]:
    return (row.owner, row.network, row.node, row.state, row.addresses, row.mac)


def _expected(pod: Pod) -> tuple[object, ...]:
    return (pod.owner, pod.network, pod.node, "attached", pod.told.addresses, pod.told.mac)


def _shown(pod: Pod) -> str:
    addresses = ", ".join(sorted(map(str, pod.told.addresses)))
    return f"{pod.owner} ({pod.container_id} on {pod.node}) has {addresses}, MAC {pod.told.mac}"
