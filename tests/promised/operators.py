"""What else is asked: pools and networks that change, nodes that come back, a restored backup."""

from abc import abstractmethod
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import rule

from broker.outcome import Reply
from schemas.address import AddressRelease
from schemas.message import Request
from schemas.network import NetworkUpdate
from schemas.node import DesiredPage, NodeAttachment, NodeFence, NodeFenced, NodeHeartbeat, NodeSync
from schemas.pool import PoolCreate, PoolDelete, PoolResize, PoolUpdate
from tests.promised.driving import NODES, V6, Driving, nodes, one_of_each, owners, subnet

names = st.sampled_from(("web", "cart", "more", "web", "cart", "more", "default", "lab", "nope"))
sizes = st.one_of(st.none(), st.none(), st.integers(1, 6))
patterns = st.sampled_from(((), ("shop/*",), ("shop/web-*",), ("shop/*", "bank/api-0"), ("bank/*", "shop/*")))
SUBNETS = (subnet(V6), subnet("10.1.0.16/29", "10.1.0.22"), subnet("fd00:1::10/125"), subnet("10.1.0.8/29"))


@st.composite
def spans(draw: st.DrawFn) -> tuple[str, ...]:
    """A range of each family, or of one."""
    first, length, kind = draw(st.integers(1, 20)), draw(st.integers(1, 5)), draw(st.integers(0, 4))
    v4 = f"10.1.0.{first}-10.1.0.{first + length - 1}"
    v6 = f"fd00:1::{first:x}-fd00:1::{first + length - 1:x}"
    return {0: (v4, v6), 1: (v6,)}.get(kind, (v4,))


class Operators(Driving):
    """Everything that needs more than the handlers of single addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, list[UUID]] = {node: [] for node in NODES}

    @abstractmethod
    def keep_backup(self) -> None:
        """Back everything up."""

    @abstractmethod
    def restore_backup(self) -> None:
        """Go back to the last backup and declare the database restored."""

    @abstractmethod
    def free_overdue(self) -> None:
        """Let an allocator free what waited too long."""

    def expire(self) -> None:
        self.book.user = "allocator"
        for net, row in self.book.rows():
            pool = net.pool_at(row.address)
            if row.state == "waiting" and pool.outlasts(row, self.book.now):
                self.book.end(net, row, "free")
        self.free_overdue()
        self.check_stored()
        self.check_lives()

    @abstractmethod
    def take_turns(self) -> None:
        """Let another allocator serve from now on."""

    @abstractmethod
    def end_pause(self) -> None:
        """Resume."""

    # Pools and networks.

    def version(self, name: str, stale: bool) -> int | None:
        """What a change expects: nothing in particular, the present version or an older one."""
        pool = self.book.networks["prod"].pools.get(name)
        return None if pool is None or not stale else pool.version - 1

    @rule(
        pool=st.sampled_from(("web", "more", "extra", "default")),
        policy=st.sampled_from(("shared", "pinned", "pinned", "reserved")),
        ranges=spans(),
        size=sizes,
        owners=patterns,
        more=st.booleans(),
    )
    def a_pool_is_created(self, ranges: tuple[str, ...], size: int | None, more: bool, **fields: Any) -> None:
        fields |= {"size": size} if size is not None else {"ranges": ranges}
        self.administer(PoolCreate, more, allow_mac=True, **fields)

    @rule(
        pool=names,
        add=spans(),
        remove=spans(),
        size=sizes,
        which=st.integers(1, 3),
        stale=st.sampled_from((False, False, False, True)),
        more=st.booleans(),
    )
    def a_pool_is_resized(
        self,
        pool: str,
        add: tuple[str, ...],
        remove: tuple[str, ...],
        size: int | None,
        which: int,
        stale: bool,
        more: bool,
    ) -> None:
        if which == 3 and set(add) & set(remove):
            return
        parts = {"add": add if which & 1 else (), "remove": remove if which & 2 else ()}
        fields: dict[str, Any] = {"size": size} if size is not None else parts
        try:
            self.administer(PoolResize, more, pool=pool, expected_version=self.version(pool, stale), **fields)
        except ValueError:  # the two overlap: that is no request
            return

    @rule(
        pool=names,
        owners=st.one_of(st.none(), patterns),
        cooldown_s=st.sampled_from((None, 0, 120)),
        allow_mac=st.sampled_from((None, True, False)),
        retain_s=st.sampled_from((None, 0, 300)),
        stale=st.sampled_from((False, False, False, True)),
        delete=st.booleans(),
        more=st.booleans(),
    )
    def a_pool_is_updated_or_deleted(
        self, pool: str, stale: bool, delete: bool, more: bool, **fields: Any
    ) -> None:
        fields = {} if delete else fields
        kind = PoolDelete if delete else PoolUpdate
        self.administer(kind, more, pool=pool, expected_version=self.version(pool, stale), **fields)

    @rule(
        added=st.sampled_from((None, None, 0, 1, 2, 3)),
        owners=st.one_of(st.none(), st.none(), st.none(), patterns),
        more=st.booleans(),
        other=st.booleans(),
    )
    def the_network_is_updated(
        self, added: int | None, owners: tuple[str, ...] | None, more: bool, other: bool
    ) -> None:
        """And maybe another allocator takes over."""
        if added is not None or owners is not None:
            subnets = [] if added is None else [SUBNETS[added]]
            self.administer(NetworkUpdate, more, add_subnets=subnets, owners=owners)
        if other:
            self.flush()
            self.take_turns()

    # Nodes.

    def session(self, node: str) -> UUID:
        """The node's present life."""
        if not self.sessions[node]:
            self.sessions[node].append(self.new_id())
        return self.sessions[node][-1]

    def has(self, node: str) -> list[UUID]:
        """What runs on the node."""
        return [n for n, (request, _) in [*self.runs.items(), *self.ghosts.items()] if request.node == node]

    @rule(
        node=nodes,
        does=st.sampled_from(("lives", "syncs", "syncs", "restarts", "tells")),
        owner=owners,
        addresses=one_of_each,
        more=st.booleans(),
    )
    def a_node(self, node: str, does: str, more: bool, **odd: Any) -> None:
        """Syncs when it has heard all answers; maybe with a pod that nobody knows."""
        if does == "lives":
            self.submit(NodeHeartbeat(node=node, session=self.session(node)), f"node.{node}", more)
            return
        if does == "restarts":
            self.sessions[node].append(self.new_id())
        self.flush()
        self.sync(node, more, (self.odd_pod(odd),) if does == "tells" else ())

    def odd_pod(self, fields: dict[str, Any]) -> NodeAttachment:
        mac = f"02:00:00:00:01:{self._ids % 256:02x}"
        if self._ids % 4 == 0:
            mac = f"0a:58:0a:01:00:{self._ids % 16:02x}"
        body = {"attachment_id": self.new_id(), "network": "prod", "container_id": "odd", "ifname": "eth0"}
        return NodeAttachment.model_validate(body | {"mac": mac} | fields)

    def sync(self, node: str, more: bool = False, details: tuple[NodeAttachment, ...] = ()) -> None:
        fields = {"node": node, "session": self.session(node), "details": details}
        self.submit(NodeSync(attachments=tuple(self.has(node)), **fields), f"node.{node}", more)

    @rule(node=nodes, back=st.sampled_from((0, 0, 1)), more=st.booleans())
    def a_node_is_fenced(self, node: str, back: int, more: bool) -> None:
        self.session(node)
        known = self.sessions[node]
        body = {"request_id": f"r{len(self.asked)}", "node": node, "reason": "off"}
        request = NodeFence.model_validate(body | {"session": known[-1 - back % len(known)]})
        self.asked.append(request)
        self.submit(request, "operator.x", more)

    def after(self, request: Request, outcome: Reply, heard: bool) -> None:
        super().after(request, outcome, heard)
        answer = outcome.message
        if isinstance(request, NodeFence) and isinstance(answer, NodeFenced) and answer.fenced:
            self._declare_off(request.node)
        if isinstance(request, NodeSync) and isinstance(answer, DesiredPage):
            self._synced(request, answer)

    def _declare_off(self, node: str) -> None:
        for attachment_id in self.has(node):
            if attachment_id in self.runs:
                self.ghosts[attachment_id] = self.runs.pop(attachment_id)
            self.superseded.discard(attachment_id)

    def _synced(self, request: NodeSync, page: DesiredPage) -> None:
        for attachment_id in page.stale:
            self.forget(attachment_id)
        for attachment_id in self.has(request.node):
            self._meet_again(attachment_id)
        for left in page.leftover:
            self.wanted.pop(left.attachment_id, None)
            self.over.add(left.attachment_id)
            body = {"network": left.network, "node": request.node, "container_id": left.container_id}
            release = AddressRelease(ifname=left.ifname, attachment_id=left.attachment_id, **body)
            self.queue.append((self.delivery(release, f"node.{request.node}"), True))
        told = {item.attachment_id for item in request.details}
        details = [self._details(n) for n in page.unknown if n in self.ghosts and n not in told]
        if details:
            fields = {"node": request.node, "session": request.session, "details": tuple(details)}
            asks = NodeSync(attachments=tuple(self.has(request.node)), **fields)
            self.queue.append((self.delivery(asks, f"node.{request.node}"), True))

    def _meet_again(self, attachment_id: UUID) -> None:
        """What the database knows (again) lives."""
        if attachment_id not in self.ghosts or attachment_id in self.superseded | self.book.ended:
            return
        request, answer = self.ghosts[attachment_id]
        rows = [row for net, row in self.book.attached_to(attachment_id) if net.name == request.network]
        if [row.address for row in rows] == [given.address for given in answer.addresses]:
            self.runs[attachment_id] = self.ghosts.pop(attachment_id)

    def _details(self, attachment_id: UUID) -> NodeAttachment:
        request, answer = self.ghosts[attachment_id]
        addresses = tuple(given.address for given in answer.addresses)
        fields = {"network", "owner", "container_id", "ifname", "attachment_id"}
        return NodeAttachment(addresses=addresses, mac=answer.mac, **request.model_dump(include=fields))

    # A restored backup.

    @rule(what=st.sampled_from(("back up", "restore", "resume")))
    def a_backup(self, what: str) -> None:
        self.flush()
        if self.book.paused:
            self.sync_all()
            self.end_pause()
        elif what == "restore":
            self.restore()
        else:
            self.keep_backup()

    def restore(self) -> None:
        """What the database knows still lives; what it forgot has to be adopted."""
        self.restore_backup()
        self.superseded.clear()
        for attachment_id in list(self.runs):
            self.ghosts[attachment_id] = self.runs.pop(attachment_id)
            self._meet_again(attachment_id)

    def sync_all(self) -> None:
        """Until nothing changes any more. Then the pause may end."""
        for _ in range(4):
            for node in NODES:
                self.sync(node)
                while self.queue:
                    self.flush()
