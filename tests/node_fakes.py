"""An allocator and a host that node worker tests can steer; they keep state as the real ones do."""

import asyncio
import copy
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from cni.request import CniRequest, Command, NetConf
from node_worker import attachments
from node_worker.attachments import Attachment, Release
from node_worker.clock import DatabaseClock
from node_worker.handlers import Handlers, Parts
from node_worker.journal import Journal
from node_worker.pacing import Bell
from node_worker.pulse import Pulse
from node_worker.releases import Releases
from node_worker.reports import Reports
from node_worker.sync import Session, Sync
from node_worker.teardown import Teardown
from node_worker.threads import Threads
from schemas.address import AddressAllocate, AddressRelease, Allocated, AllocatedAddress, Released
from schemas.errors import Code, ServiceError
from schemas.message import Done, Message, Request
from schemas.network import NetworkDefinition
from schemas.node import (
    DesiredNetwork,
    DesiredPage,
    Heartbeat,
    NodeHeartbeat,
    NodeReport,
    NodeSync,
    desired_digest,
)

DATABASE_TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SUBNET = "10.20.0.0/24"


def definition(uplink: str | None = None, mtu: int = 1500) -> NetworkDefinition:
    return NetworkDefinition.model_validate(
        {
            "driver": {"type": "bridge", "uplink": uplink},
            "subnets": [{"cidr": SUBNET, "gateway": "10.20.0.1"}],
            "mtu": mtu,
        }
    )


def present(name: str = "prod", version: int = 1, **how: Any) -> DesiredNetwork:
    return DesiredNetwork(network=name, version=version, state="present", definition=definition(**how))


def absent(name: str = "prod", version: int = 2) -> DesiredNetwork:
    return DesiredNetwork(network=name, version=version, state="absent")


def unavailable() -> ServiceError:
    return ServiceError(Code.UNAVAILABLE, "the broker is away")


class FakeAllocator:
    """`ask`: one pinned address per owner, take-over on the same node, desired networks."""

    def __init__(self, *networks: DesiredNetwork) -> None:
        self.networks = {item.network: item for item in networks}
        self.attachments: dict[UUID, AddressAllocate] = {}
        self.pinned: dict[str, int] = {}
        self.released: set[UUID] = set()
        self.reports: list[NodeReport] = []
        self.asked: list[Request] = []
        self.version = 1
        self.page_size = 100
        self.down = False
        self.hooks: dict[str, Callable[[Request], Any]] = {}
        """By request name: called before the request is applied; what it raises is answered instead."""
        self.lost: dict[str, ServiceError] = {}
        """By request name: the request is applied, and this is raised in place of its answer."""

    async def __call__(self, request: Request, *, timeout_s: float = 10.0) -> Message:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.down:
            raise unavailable()
        if request.NAME in self.hooks:
            hooked = self.hooks[request.NAME](request)
            if asyncio.iscoroutine(hooked):
                await hooked
        answer = self._apply(request)
        if request.NAME in self.lost:
            raise self.lost[request.NAME]
        return answer

    def of(self, kind: type[Request]) -> list[Any]:
        """The requests of that kind, in order."""
        return [request for request in self.asked if isinstance(request, kind)]

    def holders(self) -> dict[str, str]:
        """Owner to the container that holds its address."""
        return {request.owner: request.container_id for request in self.attachments.values()}

    def _apply(self, request: Request) -> Message:
        match request:
            case AddressAllocate():
                return self._allocate(request)
            case AddressRelease():
                return self._release(request)
            case NodeSync():
                return self._page(request)
            case NodeReport():
                self.reports.append(request)
                return Done()
            case NodeHeartbeat():
                wanted = [item for item in self.networks.values() if item.state == "present"]
                digest = desired_digest((item.network, item.version) for item in wanted)
                return Heartbeat(database_time=DATABASE_TIME, digest=digest)
        raise AssertionError(f"a node does not send {request.NAME}")

    def _allocate(self, request: AddressAllocate) -> Allocated:
        if request.attachment_id in self.released:
            raise ServiceError(Code.ATTACHMENT_RELEASED, "released before")
        held = [key for key, item in self.attachments.items() if item.owner == request.owner]
        replaced = [key for key in held if key != request.attachment_id]
        for key in replaced:
            if self.attachments[key].node != request.node:
                raise ServiceError(Code.OWNER_ATTACHED_ELSEWHERE, "held by another node")
            del self.attachments[key]
        self.attachments[request.attachment_id] = request
        offset = self.pinned.setdefault(request.owner, len(self.pinned) + 10)
        address = IPv4Address("10.20.0.0") + offset
        given = AllocatedAddress(address=address, prefix=24, gateway=IPv4Address("10.20.0.1"))
        return Allocated(
            network=request.network,
            network_version=self.version,
            pool="default",
            policy="pinned",
            attachment_id=request.attachment_id,
            addresses=(given,),
            mac="0a:58:" + ":".join(f"{byte:02x}" for byte in address.packed),
            mtu=1500,
            replaces=tuple(replaced),
        )

    def _release(self, request: AddressRelease) -> Released:
        for key, item in list(self.attachments.items()):
            by_container = (item.container_id, item.ifname, item.node) == (
                request.container_id,
                request.ifname,
                request.node,
            )
            if key == request.attachment_id or (request.attachment_id is None and by_container):
                del self.attachments[key]
                self.released.add(key)
        return Released()

    def _page(self, request: NodeSync) -> DesiredPage:
        names = [name for name in sorted(self.networks) if name > (request.after or "")]
        shown = names[: self.page_size]
        return DesiredPage(
            database_time=DATABASE_TIME,
            networks=tuple(self.networks[name] for name in shown),
            next=shown[-1] if len(names) > len(shown) else None,
        )


class FakePod:
    def __init__(self, path: str) -> None:
        self.path, self.device, self.inode = path, 4, 4026532000 + len(path)
        self.closed = False

    def __enter__(self) -> "FakePod":
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True


class FakeHost:
    """Host and driver in one. An endpoint is a host link and, in its pod, an interface; it can be cut."""

    boot_id = "0b5e2d1c-boot"

    def __init__(self) -> None:
        self.endpoints: dict[str, tuple[str, str]] = {}
        self.cut_links: set[str] = set()
        self.networks: dict[str, NetworkDefinition] = {}
        self.foreign: set[tuple[str, str]] = set()
        self.steps: list[str] = []
        self.fail: dict[str, Exception] = {}
        """By verb: raised in place of doing it."""
        self.hook: Callable[[str], None] = lambda step: None
        """Called around each verb, in its thread."""

    def driver(self, name: str) -> "FakeHost":
        assert name == "bridge"
        return self

    def open_pod(self, path: str) -> FakePod:
        self._do("open_pod")
        return FakePod(path)

    def has_link(self, pod: FakePod, ifname: str) -> bool:
        return (pod.path, ifname) in self.foreign | set(self.endpoints.values())

    def ensure(self, network: str, definition: NetworkDefinition) -> None:
        self._do("ensure")
        self.networks[network] = definition

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        self._do("remove")
        self.networks.pop(network, None)

    def attach(self, plan: Any, pod: FakePod) -> None:
        self._do("attach")
        assert plan.host_link not in self.endpoints
        assert not self.has_link(pod, plan.ifname)
        self.endpoints[plan.host_link] = (pod.path, plan.ifname)
        self.hook("attached")

    def cut(self, host_link: str) -> None:
        self._do("cut")
        self.cut_links.add(host_link)
        self.hook("was cut")

    def detach(self, host_link: str) -> None:
        self._do("detach")
        self.endpoints.pop(host_link, None)
        self.hook("detached")

    def _do(self, verb: str) -> None:
        self.steps.append(verb)
        self.hook(verb)
        if verb in self.fail:
            raise self.fail[verb]

    def copied(self) -> "FakeHost":
        """This machine as it is now, for a worker that is started on it again."""
        other = FakeHost()
        other.endpoints, other.cut_links = dict(self.endpoints), set(self.cut_links)
        other.networks, other.foreign = dict(self.networks), set(self.foreign)
        return other


def copied(allocator: FakeAllocator) -> FakeAllocator:
    """The allocator as it is now, without what a test hung on it."""
    other = FakeAllocator(*allocator.networks.values())
    other.attachments = dict(allocator.attachments)
    other.pinned = dict(allocator.pinned)
    other.released = copy.copy(allocator.released)
    return other


class Node:
    """The parts of one worker, put together as `worker.run` does, with loops that run while it is open."""

    def __init__(self, parts: Parts, reports: Reports) -> None:
        self.parts = parts
        self.reports = reports
        self.handlers = Handlers(parts)


@asynccontextmanager
async def node(path: Path, allocator: Any, host: Any, loops: Iterable[str] = ("sync", "releases")) -> Any:
    """A worker on the journal at `path`, after its first undoing and, with `sync`, after its first round."""
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(path))
        threads = stack.enter_context(Threads("fake netlink", 4))
        session, clock = Session("node-a", uuid4()), DatabaseClock()
        sync = Sync(session, allocator, clock, journal, host, threads)
        pulse = Pulse(session, allocator, clock, sync, Bell())
        releases = Releases("node-a", allocator, journal)
        teardown = Teardown(journal, host, threads, releases)
        parts = Parts("node-a", allocator, clock, journal, host, threads, sync, pulse, releases, teardown)
        reports = Reports(session, allocator, journal, sync.news)
        running = {"sync": sync.run, "releases": releases.run, "reports": reports.run, "pulse": pulse.run}
        await teardown.recover()
        tasks = [asyncio.create_task(running[name]()) for name in loops]
        try:
            if "sync" in loops and not allocator.down:
                await until(lambda: sync.digest is not None)
                for name in allocator.networks:
                    with suppress(ServiceError):
                        await sync.ready(name)
            yield Node(parts, reports)
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
) -> CniRequest:
    conf = NetConf(cniVersion="1.1.0", name=conf_name, type="moorage", network=network)
    args = {"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": pod}
    path = netns or f"/run/netns/{container}"
    return CniRequest(Command(command), container, path, ifname, args, conf, "/opt/cni/bin")


async def rows(worker: Any) -> list[Attachment]:
    return list(await worker.parts.journal.run(attachments.of_network, "prod"))


async def owed(worker: Any) -> list[Release]:
    return list(await worker.parts.journal.run(attachments.owed))


async def all_released(worker: Any, limit_s: float = 5.0) -> None:
    """Wait until no release is owed."""

    async def none() -> bool:
        return not await owed(worker)

    await until(none, limit_s)


def refused(code: str = Code.KERNEL_REFUSED) -> ServiceError:
    return ServiceError(code, "no")
