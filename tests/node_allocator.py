"""An allocator that node worker tests can steer; it keeps state and answers by the real one's rules."""

import asyncio
import copy
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from schemas.address import (
    AddressAllocate,
    AddressQuarantine,
    AddressRelease,
    Allocated,
    AllocatedAddress,
    Released,
)
from schemas.errors import Code, ServiceError
from schemas.message import Done, Message, Request
from schemas.network import NetworkDefinition
from schemas.node import (
    DesiredNetwork,
    DesiredPage,
    Heartbeat,
    LeftoverAttachment,
    NodeAttachment,
    NodeHeartbeat,
    NodeReport,
    NodeSync,
    attachments_digest,
    desired_digest,
    peers_digest,
)

DATABASE_TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SUBNET = "10.20.0.0/24"


def definition(
    uplink: str | None = None, mtu: int = 1500, driver: dict[str, Any] | None = None
) -> NetworkDefinition:
    return NetworkDefinition.model_validate(
        {
            "driver": driver or {"type": "bridge", "uplink": uplink},
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
    """`ask`: one pinned address per owner, take-over on the same node, desired networks, fences.

    `paused` is how a restored backup is served until an operator goes on.
    """

    def __init__(self, *networks: DesiredNetwork) -> None:
        self.networks = {item.network: item for item in networks}
        self.peers: tuple[Any, ...] | None = None
        """Where tunnels end, if a network has any."""
        self.attachments: dict[UUID, AddressAllocate] = {}
        self.pinned: dict[str, int] = {}
        self.released: set[UUID] = set()
        self.withheld: dict[str, str] = {}
        """Addresses in quarantine, and why."""
        self.policy = "pinned"
        self.ended: set[UUID] = set()
        """Whose end the history knows: released, replaced, fenced or ended by an operator."""
        self.sessions: dict[str, UUID] = {}
        self.fenced: set[UUID] = set()
        self.flagged: set[UUID] = set()
        self.paused = False
        self.compares = True
        """Whether its heartbeats tell a digest of attachments; an older allocator's do not."""
        self.epoch: int | None = 1
        """The database's; None where the allocator is of an older version, which does not tell."""
        self.reports: list[NodeReport] = []
        self.asked: list[Request] = []
        self.version = 1
        self.page_size = 100
        self.down = False
        self.confirms = True
        """Whether the broker says that it has a request before there is an answer."""
        self.hooks: dict[str, Callable[[Request], Any]] = {}
        """By request name: called before the request is applied; what it raises is answered instead."""
        self.late: dict[str, Callable[[Request], Any]] = {}
        """By request name: called when the request was applied, before its answer arrives."""
        self.lost: dict[str, ServiceError] = {}
        """By request name: the request is applied, and this is raised in place of its answer."""

    async def __call__(
        self, request: Request, *, timeout_s: float = 10.0, taken: Callable[[], None] | None = None
    ) -> Message:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.down:
            raise unavailable()
        if taken is not None and self.confirms:
            taken()
        await _hooked(self.hooks, request)
        answer = self._apply(request)
        await _hooked(self.late, request)
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
            case AddressQuarantine():
                self.attachments.pop(request.attachment_id, None)
                self.ended.add(request.attachment_id)
                self.withheld[str(request.address)] = request.reason
                return Done()
            case AddressRelease():
                return self._release(request)
            case NodeSync():
                return self._page(request)
            case NodeReport():
                self.reports.append(request)
                return Done()
            case NodeHeartbeat():
                return self._heartbeat(request)
        raise AssertionError(f"a node does not send {request.NAME}")

    def _allocate(self, request: AddressAllocate) -> Allocated:
        if request.attachment_id in self.ended:
            raise ServiceError(Code.ATTACHMENT_RELEASED, "released before")
        held = [key for key, item in self.attachments.items() if item.owner == request.owner]
        replaced = [key for key in held if key != request.attachment_id]
        for key in replaced:
            if self.attachments[key].node != request.node:
                raise ServiceError(Code.OWNER_ATTACHED_ELSEWHERE, "held by another node")
            self.end(key)
        self.attachments[request.attachment_id] = request
        address = self._address(request.owner)
        if str(address) in self.withheld:
            del self.attachments[request.attachment_id]
            raise ServiceError(Code.ADDRESS_QUARANTINED, f"{address} is quarantined")
        given = AllocatedAddress(address=address, prefix=24, gateway=IPv4Address("10.20.0.1"))
        return Allocated(
            network=request.network,
            network_version=self.version,
            pool="default",
            policy=self.policy,
            attachment_id=request.attachment_id,
            addresses=(given,),
            mac="0a:58:" + ":".join(f"{byte:02x}" for byte in address.packed),
            mtu=1500,
            replaces=tuple(replaced),
        )

    def _address(self, owner: str) -> IPv4Address:
        """The owner's own; where the pool is shared, another one if that is withheld."""
        found = IPv4Address("10.20.0.0") + self.pinned.setdefault(owner, len(self.pinned) + 10)
        while self.policy == "shared" and str(found) in self.withheld:
            found += 1
        return found

    def _release(self, request: AddressRelease) -> Released:
        for key, item in list(self.attachments.items()):
            by_container = (item.container_id, item.ifname, item.node) == (
                request.container_id,
                request.ifname,
                request.node,
            )
            if key == request.attachment_id or (request.attachment_id is None and by_container):
                self.end(key)
                self.released.add(key)
        return Released()

    def _page(self, request: NodeSync) -> DesiredPage:
        if request.session not in self.fenced:
            self.sessions[request.node] = request.session
        names = [name for name in sorted(self.networks) if name > (request.after or "")]
        shown = names[: min(self.page_size, request.limit)]
        return DesiredPage(
            database_time=DATABASE_TIME,
            epoch=self.epoch if request.session not in self.fenced else None,
            networks=tuple(self.networks[name] for name in shown),
            next=shown[-1] if len(names) > len(shown) else None,
            peers=self.peers if request.attachments is None and request.after is None else None,
            **self._compared(request),
        )

    def _compared(self, request: NodeSync) -> dict[str, Any]:
        for told in request.details:
            self._adopt(request.node, told)
        if request.attachments is None:
            return {}
        named, here = set(request.attachments), self.on(request.node)
        missed = [item for key, item in here.items() if key not in named] if self.paused else []
        return {
            "stale": tuple(named & self.ended),
            "unknown": tuple(named - self.ended - here.keys()),
            "leftover": tuple(LeftoverAttachment(**_named(item)) for item in missed),
        }

    def _adopt(self, node: str, told: NodeAttachment) -> None:
        if told.attachment_id in self.ended | self.attachments.keys():
            return
        if not self.paused or told.owner in self.holders():
            self.flagged.add(told.attachment_id)
            return
        self.attachments[told.attachment_id] = AddressAllocate(node=node, owner=told.owner, **_named(told))

    def _heartbeat(self, request: NodeHeartbeat) -> Heartbeat:
        known = self.sessions.get(request.node) == request.session
        wanted = [item for item in self.networks.values() if item.state == "present"]
        peers = peers_digest(self.peers) if self.peers is not None else ""
        networks = desired_digest(((item.network, item.version) for item in wanted), peers)
        here = attachments_digest(self.on(request.node)) if known else ""
        return Heartbeat(
            database_time=DATABASE_TIME,
            digest=networks if known else "",
            attachments=here if self.compares else None,
            fenced=request.session in self.fenced,
            epoch=self.epoch,
        )

    def on(self, node: str) -> dict[UUID, AddressAllocate]:
        """What is attached on a node."""
        return {key: item for key, item in self.attachments.items() if item.node == node}

    def end(self, attachment_id: UUID) -> None:
        """An attachment is over, and the history says so."""
        del self.attachments[attachment_id]
        self.ended.add(attachment_id)

    def fence(self, node: str) -> None:
        """Declare the node's present session off."""
        for attachment_id in self.on(node):
            self.end(attachment_id)
        self.fenced.add(self.sessions.pop(node))


async def _hooked(hooks: dict[str, Callable[[Request], Any]], request: Request) -> None:
    if request.NAME in hooks:
        hooked = hooks[request.NAME](request)
        if asyncio.iscoroutine(hooked):
            await hooked


def _named(item: AddressAllocate | NodeAttachment) -> dict[str, Any]:
    return item.model_dump(include={"attachment_id", "network", "container_id", "ifname"})


def copied(allocator: FakeAllocator) -> FakeAllocator:
    """The allocator as it is now, without what a test hung on it."""
    other = FakeAllocator(*allocator.networks.values())
    other.attachments = dict(allocator.attachments)
    other.pinned = dict(allocator.pinned)
    other.released, other.ended = copy.copy(allocator.released), copy.copy(allocator.ended)
    other.sessions, other.fenced = dict(allocator.sessions), copy.copy(allocator.fenced)
    other.paused = allocator.paused
    return other
