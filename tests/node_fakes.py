"""A host that node worker tests can steer, and whole workers on it and on the fake allocator."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from broker.threads import Threads
from cni.request import CniRequest, Command, NetConf
from cni.wishes import read_wishes
from node_worker import attachments
from node_worker.attachments import Attachment, Release
from node_worker.checking import Found
from node_worker.clock import DatabaseClock
from node_worker.collecting import Collector
from node_worker.conflicts import Conflicts
from node_worker.gate import Gate
from node_worker.handlers import Handlers, Parts
from node_worker.journal import Journal
from node_worker.leftovers import Leftovers
from node_worker.pulse import Pulse
from node_worker.reconcile import Reconcile
from node_worker.releases import Releases
from node_worker.reports import Reports
from node_worker.session import Session
from node_worker.sync import Sync
from node_worker.teardown import Teardown
from schemas.errors import Code, ServiceError
from schemas.network import NetworkDefinition


class FakePod:
    def __init__(self, path: str) -> None:
        self.path, self.device, self.inode = path, 4, 4026532000 + len(path)
        self.closed = False

    def cookie(self) -> int:
        return 1

    def __enter__(self) -> "FakePod":
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True


class FakeHost:
    """Host and driver in one. An endpoint is a host link and, in its pod, an interface; it can be cut."""

    boot_id = "0b5e2d1c-boot"

    def __init__(self) -> None:
        self.endpoints: dict[str, tuple[str, str]] = {}
        self.prepared: dict[str, tuple[str, str]] = {}
        """Pairs without address. They come and go beside an allocate, before or after its answer."""
        self.delegated = False
        self.cut_links: set[str] = set()
        self.networks: dict[str, NetworkDefinition] = {}
        self.foreign: set[tuple[str, str]] = set()
        self.steps: list[str] = []
        self.fail: dict[str, Exception] = {}
        """By verb: raised in place of doing it."""
        self.plans: dict[str, Any] = {}
        self.mended: dict[str, set[str]] = {}
        self.led_to: dict[str, set[Any]] = {}
        self.damage: dict[str, Any] = {}
        """What `inspect` finds in place of what was attached."""
        self.hook: Callable[[str], None] = lambda step: None
        """Called around each verb, in its thread."""

    def driver(self, name: str) -> "FakeHost":
        assert name in ("bridge", "vxlan", "ipam")
        self.delegated = name == "ipam"
        return self

    def open_pod(self, path: str) -> FakePod:
        self._do("open_pod")
        return FakePod(path)

    def has_link(self, pod: FakePod, ifname: str) -> bool:
        there = {*self.foreign, *self.endpoints.values(), *self.prepared.values()}
        return (pod.path, ifname) in there

    @property
    def shows_on_host(self) -> bool:
        return not self.delegated

    def address(self) -> None:
        return None

    def network_links(self) -> frozenset["FakeLink"]:
        return frozenset(map(FakeLink, self.networks))

    def mend(self, network: str, endpoints: Collection[Attachment]) -> None:
        self.mended[network] = {row.host_link for row in endpoints}

    def check_probing(self, definition: NetworkDefinition) -> None:
        if definition.probes and "probe" in self.fail:
            raise self.fail["probe"]

    def ensure(self, network: str, definition: NetworkDefinition, peers: Collection[Any]) -> None:
        self.led_to[network] = set(peers)
        self._do("ensure")
        self.networks[network] = definition

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        self._do("remove")
        self.networks.pop(network, None)

    def has_host_link(self, name: str) -> bool:
        self._do("has_host_link")
        return name in self.endpoints

    def missing(self, rows: Collection[Attachment]) -> set[UUID]:
        self._do("missing")
        return {row.attachment_id for row in rows if row.host_link not in self.endpoints}

    def remove_unknown(self, host_link: str) -> None:
        self.cut_links.add(host_link)
        self._remove(host_link)

    def prepare(self, plan: Any, pod: FakePod, definition: NetworkDefinition) -> "FakePrepared":
        self._do("prepare")
        assert plan.host_link not in {*self.endpoints, *self.prepared}
        assert self.delegated or not self.has_link(pod, plan.ifname)
        self.prepared[plan.host_link] = (pod.path, plan.ifname)
        self.hook("prepared")
        return FakePrepared(self)

    def attach(self, plan: Any) -> Any:
        try:
            self._do("attach")
        finally:
            pair = self.prepared.pop(plan.host_link, None)
        if pair is None:  # somebody removed it meanwhile
            raise refused()
        self.endpoints[plan.host_link] = pair
        self.plans[plan.host_link] = plan
        self.hook("attached")
        return plan

    def inspect(self, attachment: Attachment, pod: FakePod) -> Found:
        self._do("inspect")
        plan = self.plans[attachment.host_link]
        there = attachment.host_link in self.endpoints
        routes = tuple((route.destination, route.via) for route in plan.routes)
        found = Found(plan.mac if there else None, there, plan.addresses, routes, there, there, plan.bridge)
        return replace(found, **self.damage)

    def cut(self, attachment: Attachment) -> None:
        self._do("cut")
        self.cut_links.add(attachment.host_link)
        self.hook("was cut")

    def detach(self, attachment: Attachment) -> None:
        self._do("detach")
        self._remove(attachment.host_link)
        self.hook("detached")

    def _remove(self, host_link: str) -> None:
        self.prepared.pop(host_link, None)
        self.endpoints.pop(host_link, None)

    def _do(self, verb: str) -> None:
        self.steps.append(verb)
        self.hook(verb)
        if verb in self.fail:
            raise self.fail[verb]

    def copied(self) -> "FakeHost":
        """This machine as it is now, for a worker that is started on it again."""
        other = FakeHost()
        other.endpoints, other.cut_links = dict(self.endpoints), set(self.cut_links)
        other.prepared = dict(self.prepared)
        other.networks, other.foreign = dict(self.networks), set(self.foreign)
        return other


class FakeLink(NamedTuple):
    name: str


class FakePrepared:
    def __init__(self, host: FakeHost) -> None:
        self.complete = host.attach

    def ear(self) -> None:
        return None

    def close(self) -> None:
        pass


class Node:
    """The parts of one worker, put together as `worker.run` does, with loops that run while it is open."""

    def __init__(self, parts: Parts, session: Session, reconcile: Reconcile) -> None:
        self.parts = parts
        self.session = session
        self.reconcile = reconcile
        self.handlers = Handlers(parts)


LOOPS = ("sync", "reconcile", "releases")


@asynccontextmanager
async def node(
    path: Path,
    allocator: Any,
    host: Any,
    loops: Iterable[str] = LOOPS,
    *,
    served: bool = True,
    repair_s: float = 30,
) -> Any:
    """A worker on the journal at `path`, after its first undoing and, if `served`, when it serves ADD."""
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(path))
        threads = stack.enter_context(Threads("fake netlink", 4))
        session, clock, gate = Session("node-a"), DatabaseClock(), Gate("node-a")
        sync = Sync(session, allocator, clock, journal, host, threads, repair_s)
        releases = Releases("node-a", allocator, journal)
        teardown = Teardown(journal, host, threads, threads, releases)
        leftovers = Leftovers(journal, host, threads, releases)
        reconcile = Reconcile(session, allocator, clock, journal, teardown, leftovers, gate, sync.ended)
        pulse = Pulse(session, allocator, clock, sync, reconcile, gate)
        collector = Collector(journal, host, threads, teardown)
        parts = Parts(
            "node-a",
            allocator,
            clock,
            journal,
            host,
            threads,
            sync,
            pulse,
            gate,
            releases,
            teardown,
            collector,
            Conflicts("node-a", allocator, threads),
        )
        reports = Reports(session, allocator, journal, sync.news)
        running = {
            "sync": sync.run,
            "reconcile": reconcile.run,
            "releases": releases.run,
            "reports": reports.run,
            "pulse": pulse.run,
        }
        await teardown.recover()
        tasks = [asyncio.create_task(running[name]()) for name in loops]
        try:
            if served and "sync" in loops and not allocator.down:
                await until(lambda: sync.digest is not None)
                for name in allocator.networks:
                    with suppress(ServiceError):
                        await sync.ready(name)
            if served and "reconcile" in loops and not allocator.down:
                await gate.passed()
            yield Node(parts, session, reconcile)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks) if tasks else None


async def until(condition: Callable[[], Any], limit_s: float = 5.0) -> None:
    """Wait for `condition`, plain or to be awaited, at most `limit_s` seconds."""
    async with asyncio.timeout(limit_s):
        while True:
            met = condition()
            if await met if asyncio.iscoroutine(met) else met:
                return
            await asyncio.sleep(0.002)


def call(
    command: str = "ADD",
    container: str = "c1",
    pod: str = "web-0",
    ifname: str = "eth0",
    network: str = "prod",
    conf_name: str = "pods",
    netns: str | None = None,
    **conf_keys: Any,
) -> CniRequest:
    keys = {"cniVersion": "1.1.0", "name": conf_name, "type": "moorage", "network": network}
    conf = NetConf.model_validate(keys | conf_keys)
    args = {"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": pod}
    path = netns or f"/run/netns/{container}"
    wishes = read_wishes(conf, args, ifname)
    return CniRequest(Command(command), container, path, ifname, args, conf, "/opt/cni/bin", wishes)


def wiring(host: FakeHost) -> list[str]:
    """What was done, without what is done beside an allocate: it comes before or after that one's answer."""
    return [step for step in host.steps if step != "prepare"]


async def serving(worker: Any) -> None:
    """Wait until the gate is open for ADD."""
    await until(lambda: not worker.parts.gate._closed)


async def rows(worker: Any, network: str = "prod") -> list[Attachment]:
    return list(await worker.parts.journal.run(attachments.of_network, network))


async def owed(worker: Any) -> list[Release]:
    return list(await worker.parts.journal.run(attachments.owed))


async def all_released(worker: Any, limit_s: float = 5.0) -> None:
    """Wait until no release is owed."""

    async def none() -> bool:
        return not await owed(worker)

    await until(none, limit_s)


def refused(code: str = Code.KERNEL_REFUSED) -> ServiceError:
    return ServiceError(code, "no")
