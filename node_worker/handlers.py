"""ADD and DEL: the order in which journal, allocator and kernel are asked (DESIGN sections 2 and 8).

What a kill at any line leaves behind is told by the attachment's row, which is written before each step that
could leave something: see `attachments.State` and `teardown.py`.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import structlog
from pydantic import ValidationError

from broker.threads import Threads, ended, whole
from cni.errors import CniError, SpecCode
from cni.request import CniRequest
from cni.result import CniResult
from node_worker import attachments, conflicts
from node_worker.asking import Ask, ask_for, left_open
from node_worker.attachments import Attachment, State
from node_worker.checking import complain, expected
from node_worker.clock import DatabaseClock
from node_worker.collecting import Collector
from node_worker.conflicts import Conflicts
from node_worker.drivers import Prepared
from node_worker.drivers.delegated import DELEGATED
from node_worker.gate import Gate
from node_worker.host import Host
from node_worker.journal import Journal
from node_worker.netlink.namespace import Netns
from node_worker.netlink.veth import interface_exists
from node_worker.plan import (
    EndpointPlan,
    bridge_name,
    delegated_result,
    host_link_name,
    plan_endpoint,
    plan_link,
    result,
)
from node_worker.pulse import Pulse
from node_worker.refusals import makes_no_interfaces, overtaken
from node_worker.releases import Releases
from node_worker.sync import ReadyNetwork, Sync
from node_worker.teardown import Teardown
from schemas.address import AddressAllocate, Allocated
from schemas.errors import Code, ServiceError
from schemas.validation import explain

ALLOCATE_S = 20.0
"""How long an allocate may take, in seconds: less than the CNI endpoint gives an ADD."""
_MARGIN_S = 1.0  # the deadline passes before the node stops waiting, so that a late answer is rare
_RELEASE_S = 2.0
_OTHERS = 3
"""How many addresses that somebody else was seen to use are passed over within one ADD."""

log = structlog.get_logger("moorage.node")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the handlers work with."""

    node: str
    ask: Ask
    clock: DatabaseClock
    journal: Journal
    host: Host
    threads: Threads
    sync: Sync
    pulse: Pulse
    gate: Gate
    releases: Releases
    teardown: Teardown
    collector: Collector
    conflicts: Conflicts


class Handlers:
    """The node worker's `cni.endpoint.Handler`. Calls of one container come one after another."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def add(self, request: CniRequest) -> CniResult:
        """Attach the pod: a complete endpoint, or nothing and the ServiceError that says why."""
        self._parts.pulse.check()
        async with self._parts.gate.adding():
            for _ in range(_OTHERS):
                with suppress(conflicts.AnotherMayDo):
                    return await self._add(request)
            return await self._add(request)

    async def _add(self, request: CniRequest) -> CniResult:
        parts = self._parts
        network = await parts.sync.ready(request.network)
        if network.definition.driver.type == DELEGATED and not request.conf.delegated:
            raise makes_no_interfaces(network.network)
        with ExitStack() as shelter:
            shelter.enter_context(parts.collector.sheltered(named := uuid4()))
            async with AsyncExitStack() as undo:
                undo.push_async_callback(self._undo, named)
                begun = await parts.threads.quickly(self._begin, request, network, named)
                with begun.pod as pod:
                    draft = begun.draft
                    if not begun.done:
                        draft = await self._begin_again(request, begun)
                        shelter.enter_context(parts.collector.sheltered(draft.attachment_id))
                        undo.push_async_callback(self._undo, draft.attachment_id)
                        await parts.journal.run(attachments.begin, draft)
                    request.notes["attachment_id"] = str(draft.attachment_id)
                    plan, allocated = await self._attach(request, draft, network, pod)
                undo.pop_all()
        if request.conf.delegated:
            return delegated_result(plan, allocated)
        return result(plan, allocated, pod.path)

    def _begin(self, request: CniRequest, network: ReadyNetwork, named: UUID) -> "_Begun":
        """Look at the pod, and write its attachment down if nothing is in the way. For a thread.

        An interface that another plugin made, which delegates to us, is not in the way.
        """
        host = self._parts.host
        pod = host.open_pod(request.netns or "")
        there = not request.conf.delegated and host.has_link(pod, request.ifname)
        draft = self._drafted(request, pod, network, named)
        done = not there and self._parts.journal.now(attachments.begin_afresh, draft)
        return _Begun(pod, draft, there, done)

    async def _attach(
        self, request: CniRequest, attachment: Attachment, network: ReadyNetwork, pod: Netns
    ) -> tuple[EndpointPlan, Allocated]:
        """Links are made while the allocator serves the request.

        Not before: RabbitMQ, which has it first, would be slower for the work beside it, and nothing has to
        be unmade where the request is never sent.
        """
        parts = self._parts
        driver = parts.host.driver(attachment.driver)
        mtu = network.definition.mtu
        link = plan_link(attachment.network, attachment.attachment_id, attachment.ifname, mtu)
        taken = asyncio.Event()

        async def prepare() -> Prepared:
            await taken.wait()
            return await parts.threads.run(driver.prepare, link, pod, network.definition)

        preparing = asyncio.create_task(prepare())
        try:
            allocated = await self._allocate(request, attachment, taken.set)
        except BaseException:
            if not taken.is_set():
                preparing.cancel()
            await ended(preparing)
            if not preparing.cancelled() and preparing.exception() is None:
                preparing.result().close()
            raise
        taken.set()
        with closing(await whole(preparing)) as prepared:
            plan = plan_endpoint(allocated, request.ifname)
            return await self._wire(attachment, allocated, plan, prepared, network), allocated

    async def delete(self, request: CniRequest) -> None:
        """Detach the pod; the release is sent now or, if the broker is away, later (promise 7)."""
        parts = self._parts
        attachment = await parts.journal.run(
            attachments.find, request.container_id, request.ifname, request.conf.name
        )
        if attachment is not None:
            request.notes["attachment_id"] = str(attachment.attachment_id)
            release = await parts.teardown.retire(attachment)
            parts.sync.ended(attachment.network)
        else:
            release = await parts.journal.run(
                attachments.owe_nameless, request.network, request.container_id, request.ifname
            )
            if release is not None:
                parts.releases.send(release)
        if release is not None and parts.pulse.healthy:
            await parts.releases.wait(release, _RELEASE_S)
        address = [str(item.ip) for item in attachment.addresses] if attachment is not None else []
        log.info("pod detached", **_about(request, parts.node), **request.notes, address=address)

    async def check(self, request: CniRequest) -> None:
        """Raise ServiceError `attachment_released` or `endpoint_broken`; `CniError` 7 for its prevResult."""
        parts = self._parts
        attachment = await parts.journal.run(
            attachments.find, request.container_id, request.ifname, request.conf.name
        )
        if attachment is None or attachment.state is not State.ATTACHED:
            raise ServiceError(
                Code.ATTACHMENT_RELEASED,
                f"{request.container_id} {request.ifname} is not attached to this node (any more): delete "
                "the pod, its next sandbox is attached anew",
                container_id=request.container_id,
            )
        wanted = expected(request.conf.prevResult, attachment, delegated=request.conf.delegated)
        with await parts.threads.run(parts.host.open_pod, request.netns or "") as pod:
            driver = parts.host.driver(attachment.driver)
            complain(attachment, wanted, await parts.threads.run(driver.inspect, attachment, pod))

    async def collect(self, request: CniRequest) -> None:
        """End what of this configuration the runtime does not list any more; nothing without a list."""
        if request.conf.valid_attachments is not None:
            await self._parts.collector.collect(request.conf.name, request.conf.valid_attachments)

    async def status(self, request: CniRequest) -> None:
        """Raise `CniError` 50 where ADD would be refused now, from what is known without asking anybody."""
        try:
            self._parts.journal.check()
            self._parts.pulse.check()
            self._parts.gate.check()
            self._parts.sync.check(request.network)
        except ServiceError as error:
            raise CniError(SpecCode.NOT_AVAILABLE, error.message, str(error.code)) from error

    async def _begin_again(self, request: CniRequest, begun: "_Begun") -> Attachment:
        """Clear away what an earlier call left for this interface; the attachment to write down.

        Raises ServiceError `interface_exists` when the interface is complete, or not ours.
        """
        parts, draft = self._parts, begun.draft
        known = await parts.journal.run(
            attachments.find, request.container_id, request.ifname, request.conf.name
        )
        if begun.there and (known is None or known.state is State.ATTACHED):
            raise interface_exists(request.ifname, f"container {request.container_id}")
        if known is not None:
            if _goes_on(known, draft):
                await parts.teardown.clear(known)
                draft = replace(draft, attachment_id=known.attachment_id, host_link=known.host_link)
            else:
                await parts.teardown.retire(known)
            if begun.there and await parts.threads.run(parts.host.has_link, begun.pod, request.ifname):
                raise interface_exists(request.ifname, f"container {request.container_id}")
        await parts.releases.settle(request.container_id, request.ifname, _RELEASE_S)
        return draft

    def _drafted(self, request: CniRequest, pod: Netns, network: ReadyNetwork, named: UUID) -> Attachment:
        driver = DELEGATED if request.conf.delegated else network.definition.driver.type
        return Attachment(
            attachment_id=named,
            network=request.network,
            conf_name=request.conf.name,
            container_id=request.container_id,
            ifname=request.ifname,
            owner=request.owner,
            netns=pod.path,
            netns_device=pod.device,
            netns_inode=pod.inode,
            netns_cookie=0 if self._parts.host.driver(driver).shows_on_host else pod.cookie(),
            boot_id=self._parts.host.boot_id,
            driver=driver,
            bridge=bridge_name(request.network),
            host_link=host_link_name(named),
        )

    async def _allocate(
        self, request: CniRequest, attachment: Attachment, taken: Callable[[], None]
    ) -> Allocated:
        parts = self._parts
        try:
            question = AddressAllocate(
                network=request.network,
                pool=request.wishes.pool,
                owner=request.owner,
                node=parts.node,
                container_id=request.container_id,
                ifname=request.ifname,
                attachment_id=attachment.attachment_id,
                deadline=parts.clock.after(ALLOCATE_S - _MARGIN_S),
                addresses=request.wishes.addresses,
                mac=request.wishes.mac,
            )
        except ValidationError as error:
            raise ServiceError(Code.INVALID_REQUEST, f"this cannot be asked for: {explain(error)}") from error
        try:
            allocated = await ask_for(Allocated, parts.ask, question, ALLOCATE_S, taken)
        except ServiceError as error:
            if not left_open(error):  # a "no": it has taken nothing over from anybody
                await parts.journal.run(attachments.removing, attachment)
            raise
        # The allocator may know a newer network than this node has made.
        await parts.sync.ready(allocated.network, allocated.network_version)
        return allocated

    async def _wire(
        self,
        attachment: Attachment,
        allocated: Allocated,
        plan: EndpointPlan,
        prepared: Prepared,
        network: ReadyNetwork,
    ) -> EndpointPlan:
        """Complete the endpoint, where it may be completed; what came of the plan."""
        parts = self._parts
        await parts.gate.passed()  # a stale endpoint may still have the address
        if allocated.replaces:
            given = (plan.addresses, plan.mac, allocated.replaces)
            if not await parts.journal.run(attachments.answered, attachment.attachment_id, *given):
                raise overtaken(attachment)
            for replaced in allocated.replaces:
                await self._make_room(replaced)
        if network.definition.probes:
            await parts.conflicts.check(attachment, allocated, plan, prepared)
        try:
            made = await parts.threads.run(self._completed, attachment, allocated, plan, prepared)
        except ServiceError as error:
            if error.code == Code.NETWORK_NOT_READY:
                parts.sync.distrust(attachment.network)
            raise
        if made is None:
            parts.gate.check()
            raise overtaken(attachment)
        return made

    def _completed(
        self, attachment: Attachment, allocated: Allocated, plan: EndpointPlan, prepared: Prepared
    ) -> EndpointPlan | None:
        """What came of the plan, or None where the attachment is to go already. For a thread."""
        journal, named = self._parts.journal, attachment.attachment_id
        given = (plan.addresses, plan.mac, ())
        if not allocated.replaces and not journal.now(attachments.answered, named, *given):
            return None
        try:
            made = prepared.complete(plan)
        except ServiceError:
            row = journal.now(attachments.by_id, named)
            if row is not None and row.state is State.WIRING:
                raise
            return None  # whoever ended it took its links away
        return made if journal.now(attachments.attached, named) else None

    async def _make_room(self, replaced: UUID) -> None:
        """Remove the endpoint of the owner's old sandbox on this node: its address is the new one's now."""
        old = await self._parts.journal.run(attachments.by_id, replaced)
        if old is not None:
            await self._parts.teardown.retire(old)
        else:
            await self._parts.threads.run(self._parts.host.remove_unknown, host_link_name(replaced))

    async def _undo(self, named: UUID) -> None:
        """After a failed ADD. What cannot be undone now stays unfinished in the journal."""
        try:
            await whole(asyncio.create_task(self._retired(named)))
        except ServiceError as error:
            log.warning("a failed ADD stays unfinished", attachment_id=str(named), error=str(error))

    async def _retired(self, named: UUID) -> None:
        attachment = await self._parts.journal.run(attachments.by_id, named)
        if attachment is not None:
            await self._parts.teardown.retire(attachment)
        else:  # ended meanwhile, maybe before its links were made
            await self._parts.threads.run(self._parts.host.remove_unknown, host_link_name(named))


@dataclass(frozen=True, slots=True)
class _Begun:
    """An ADD that has seen its pod: `there` says that the pod has such an interface.

    `done` says that its attachment is written down, which it is where nothing was in the way.
    """

    pod: Netns
    draft: Attachment
    there: bool
    done: bool


def _goes_on(known: Attachment, draft: Attachment) -> bool:
    """Whether `draft` repeats the call of `known`, of which nobody knows yet that it was answered.

    A repeated call for addresses alone is the same one as long as the pod is.
    """
    unfinished = known.state in (State.ALLOCATING, State.WIRING)
    again = known.state is State.ATTACHED and known.driver == DELEGATED
    if (known.network, known.driver) != (draft.network, draft.driver):
        return False
    return unfinished or (again and _same_pod(known, draft))


def _same_pod(known: Attachment, draft: Attachment) -> bool:
    return (known.netns_inode, known.netns_cookie) == (draft.netns_inode, draft.netns_cookie)


def _about(request: CniRequest, node: str) -> dict[str, str]:
    return {
        "request": str(request.command),
        "container_id": request.container_id,
        "ifname": request.ifname,
        "node": node,
        "network": request.network,
        "owner": request.owner,
    }
