"""Reads the addresses in every pod's namespace, again and again."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from bench.soak.ledger import Ledger
from bench.soak.pods import Pods
from bench.soak.sandbox import IFNAME, Sandbox
from bench.soak.sightings import Look, Seen, broken, clashes
from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import inside
from schemas.errors import ServiceError
from schemas.fields import IPAddress

EVERY_S = 1.0


def look_at(sandbox: Sandbox) -> Look:
    """What is in a namespace now."""
    told, at = sandbox.told, datetime.now(UTC)
    addresses, mac, carrier = _read(sandbox)
    return Look(
        at=at,
        until=datetime.now(UTC),
        owner=sandbox.owner,
        network=sandbox.network,
        node=sandbox.node,
        container_id=sandbox.container_id,
        addresses=addresses,
        mac=mac,
        carrier=carrier,
        told=told if sandbox.told is told else None,
    )


def _read(sandbox: Sandbox) -> tuple[frozenset[IPAddress], str | None, bool]:
    """Addresses, MAC, and whether there is a carrier. Nothing where the namespace is, or goes, away.

    The carrier last: an address stays as long as its link does, so both were there together.
    """
    try:
        with Netns(str(sandbox.path)) as netns, inside(netns) as links:
            link = links.find(IFNAME)
            if link is not None:
                found = frozenset(item.ip for item in links.addresses(link.index) if not item.is_link_local)
                link = links.at(link.index)
            if link is not None:
                return found, link.mac, link.carrier
    except (ServiceError, OSError):
        pass
    return frozenset(), None, False


class Watcher:
    """One thread, which enters one namespace after another."""

    def __init__(
        self, pods: Pods, ledger: Ledger, look: Callable[[Sandbox], Look] = look_at, every_s: float = EVERY_S
    ) -> None:
        self.seen = Seen()
        self.rounds = 0
        self._pods, self._ledger, self._look, self._every_s = pods, ledger, look, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the round, and end."""
        self._stopping.set()
        self._thread.join()

    def round(self) -> Sequence[Look]:
        """Read all namespaces once, and judge."""
        sandboxes = {sandbox.container_id: sandbox for sandbox in self._pods.existing}
        looks = [self._look(sandbox) for sandbox in sandboxes.values()]
        for clash in clashes(looks):
            violation = clash.confirmed(self._look(sandboxes[clash.first.container_id]))
            if violation is not None:
                self._ledger.violated(violation)
        for look in looks:
            lost = broken(look)
            if lost is not None:
                self._ledger.violated(lost)
        self.seen.add(looks)
        self.rounds += 1
        return looks

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            with self._ledger.blaming("watcher"):
                self.round()
