"""Nodes and people who ask for everything that can be asked, in any order, and check each answer."""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from broker.outcome import Delivery, Outcome, Reply
from schemas.address import (
    AddressAllocate,
    AddressQuarantine,
    AddressRebind,
    AddressRelease,
    AddressReleaseByOperator,
    AddressReserve,
    Allocated,
)
from schemas.fields import IPAddress
from schemas.message import Administrative, Request
from schemas.network import Subnet
from tests.promised.book import Book
from tests.promised.rules import enter
from tests.promised.state import Net

NODES = ("n1", "n2", "n3")
OWNERS = ("shop/web-0", "shop/web-1", "shop/web-2", "shop/cart-0", "shop/cart-1", "bank/api-0", "bank/api-1")
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02", "0a:58:0a:01:00:05")
V4, V6 = "10.1.0.0/28", "fd00:1::/124"

owners, nodes = st.sampled_from(OWNERS), st.sampled_from(NODES)
networks = st.sampled_from(("prod",) * 7 + ("side", "nowhere"))
ifnames = st.sampled_from(("eth0",) * 4 + ("net1",))
pools = st.sampled_from((None, None, None, "default", "web", "cart", "lab", "more", "nope"))
v4 = st.integers(0, 17).map(lambda i: ip_address("10.1.0.0") + i)
v6 = st.integers(0, 17).map(lambda i: ip_address("fd00:1::") + i)
one_of_each = st.one_of(st.tuples(v4), st.tuples(v4, v6), st.tuples(v6))
recent = st.integers(0, 63)
"""How far back: shrinks towards the last one."""


def subnet(cidr: str, gateway: str | None = None) -> Subnet:
    return Subnet.model_validate({"cidr": cidr, "gateway": gateway})


class Driving(RuleBasedStateMachine):
    """What runs on the nodes, what they asked, and the book that all of it is checked against."""

    MOST = 6
    """How many deliveries make a batch at most."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.book.networks = {"prod": Net("prod"), "side": Net("side")}
        self.queue: list[tuple[Delivery, bool]] = []
        self.sent: list[Request] = []
        """What nodes asked about attachments: all of it may come again."""
        self.late: list[AddressAllocate] = []
        """Allocates that are still under way."""
        self.asked: list[Administrative] = []
        self.wanted: dict[UUID, AddressAllocate] = {}
        """What nodes asked for and have not released, whether or not they were answered."""
        self.runs: dict[UUID, tuple[AddressAllocate, Allocated]] = {}
        """The attachments that live: their node was answered, and nothing ended them since."""
        self.ghosts: dict[UUID, tuple[AddressAllocate, Allocated]] = {}
        """What still runs although somebody said that it does not, or that a restored database forgot."""
        self.over: set[UUID] = set()
        """What nodes tore down: an answer that comes late revives nobody."""
        self.superseded: set[UUID] = set()
        """Ghosts whose successor on the same node was never heard of. They end before it is released."""
        self._ids = 0

    @abstractmethod
    def apply(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Have the allocator decide. Moves the book's clock to the time at which it did."""

    @abstractmethod
    def check_stored(self) -> None:
        """Compare what is stored with the book."""

    @abstractmethod
    def wait(self, seconds: int) -> None:
        """Let time pass."""

    def new_id(self) -> UUID:
        self._ids += 1
        return UUID(int=self._ids, version=4)

    # Batches.

    def submit(self, request: Request, user: str, more: bool, heard: bool = True) -> None:
        """Add to the batch; `more` holds it back for others. `heard`: the answer will reach the sender."""
        self.queue.append((self.delivery(request, user), heard))
        if not more or len(self.queue) >= self.MOST:
            self.flush()

    @staticmethod
    def delivery(request: Request, user: str) -> Delivery:
        return Delivery(request, user, "reply", "correlation", "message")

    def flush(self) -> None:
        if not self.queue:
            return
        batch, self.queue = self.queue, []
        outcomes = self.apply([delivery for delivery, _ in batch])
        self.book.events = []
        for (delivery, heard), outcome in zip(batch, outcomes, strict=True):
            self.before(delivery.request, outcome)
            enter(self.book, delivery, outcome)
            if isinstance(outcome, Reply):
                self.after(delivery.request, outcome, heard)
        self.check_stored()
        self.check_lives()

    def teardown(self) -> None:
        self.flush()

    def before(self, request: Request, outcome: Outcome) -> None:
        """A person's word that a pod is gone: from here on it is not promised anything."""
        if not isinstance(request, AddressReleaseByOperator) or request.request_id in self.book.settled:
            return
        if request.force and isinstance(outcome, Reply):
            net = self.book.networks[request.network]
            row = net.rows.get(request.address)
            if row is not None and row.attachment in self.runs:
                self.ghosts[row.attachment] = self.runs.pop(row.attachment)

    def after(self, request: Request, outcome: Reply, heard: bool) -> None:
        """A node has its answer: the new attachment lives; what it replaces is torn down first."""
        answer = outcome.message
        if not isinstance(request, AddressAllocate) or not isinstance(answer, Allocated):
            return
        if heard and request.attachment_id not in self.over:
            self.ghosts.pop(request.attachment_id, None)
            self.runs[request.attachment_id] = (request, answer)
            for replaced in answer.replaces:
                self.forget(replaced)
        for replaced in self.runs.keys() & set(answer.replaces):
            self.ghosts[replaced] = self.runs.pop(replaced)
            self.superseded.add(replaced)

    def forget(self, attachment_id: UUID) -> None:
        """The node tears it down."""
        self.over.add(attachment_id)
        self.runs.pop(attachment_id, None)
        self.ghosts.pop(attachment_id, None)
        self.superseded.discard(attachment_id)

    def forget_older(self, newer: AddressAllocate) -> None:
        """The node tears down what an allocate that was never answered may have taken over."""
        for attachment_id, (older, _) in [*self.runs.items(), *self.ghosts.items()]:
            same = (older.network, older.owner, older.ifname, older.node)
            if same == (newer.network, newer.owner, newer.ifname, newer.node):
                self.forget(attachment_id)

    def check_lives(self) -> None:
        """No address has two live attachments, and no live attachment has lost one."""
        given: dict[tuple[str, IPAddress], UUID] = {}
        for attachment_id, (request, answer) in self.runs.items():
            for address in answer.addresses:
                assert given.setdefault((request.network, address.address), attachment_id) == attachment_id
                row = self.book.networks[request.network].rows[address.address]
                assert (row.attachment, row.node) == (attachment_id, request.node), (row, request)
                assert row.mac == answer.mac
        for attachment_id in self.superseded:
            request, answer = self.ghosts[attachment_id]
            for address in answer.addresses:
                row = self.book.networks[request.network].rows[address.address]
                assert row.node in (None, request.node), (row, request)

    # What nodes ask.

    def attach(self, more: bool, heard: bool, late: bool, **fields: object) -> None:
        attachment_id = self.new_id()
        body = {"network": "prod", "ifname": "eth0", "container_id": f"c{attachment_id.int % 1000}"}
        request = AddressAllocate.model_validate(body | fields | {"attachment_id": attachment_id})
        self.wanted[attachment_id] = request
        if late:
            self.late.append(request)
        else:
            self.sent.append(request)
            self.submit(request, f"node.{request.node}", more, heard)

    @rule(owner=owners, node=nodes, more=st.booleans(), heard=st.booleans())
    def attaches(self, owner: str, node: str, more: bool, heard: bool) -> None:
        self.attach(more, heard, False, owner=owner, node=node)

    @rule(owner=owners, more=st.booleans(), container=st.sampled_from(("same", "other")), ifname=ifnames)
    def attaches_on_the_first_node(self, owner: str, more: bool, container: str, ifname: str) -> None:
        self.attach(more, True, False, owner=owner, node="n1", container_id=container, ifname=ifname)

    @rule(
        owner=owners,
        node=nodes,
        network=networks,
        ifname=ifnames,
        pool=pools,
        picks=st.lists(recent, max_size=3),
        mac=st.sampled_from((None, None, None, *MACS)),
        hours=st.sampled_from((None, None, None, 1, -1)),
        more=st.booleans(),
        late=st.booleans(),
    )
    def attaches_with_wishes(
        self, hours: int | None, picks: list[int], more: bool, late: bool, **fields: object
    ) -> None:
        wishes = tuple(dict.fromkeys(self.somewhere(pick) for pick in picks))
        deadline = None if hours is None else self.time() + timedelta(hours=hours)
        self.attach(more, True, late, deadline=deadline, addresses=wishes, **fields)

    def time(self) -> datetime:
        return self.book.now.replace(tzinfo=UTC)

    @precondition(lambda self: self.late or self.sent)
    @rule(back=recent, other=st.sampled_from((None,) * 6 + OWNERS), more=st.booleans(), heard=st.booleans())
    def a_message_comes(self, back: int, other: str | None, more: bool, heard: bool) -> None:
        """A late one for the first time, or any again; or another allocate under the id of an earlier one."""
        if self.late and back % 2:
            self.sent.append(self.late.pop(back % len(self.late)))
        if not self.sent:
            return
        request = self.sent[-1 - back % len(self.sent)]
        if other is not None and isinstance(request, AddressAllocate):
            request, heard = request.model_copy(update={"owner": other}), False
        self.submit(request, f"node.{request.node}", more, heard)  # type: ignore[attr-defined]

    @precondition(lambda self: self.wanted)
    @rule(back=recent, by=st.sampled_from(("itself",) * 5 + NODES), more=st.booleans())
    def releases(self, back: int, by: str, more: bool) -> None:
        """The node itself, or another one that has no business to."""
        request = list(self.wanted.values())[-1 - back % len(self.wanted)]
        if by in ("itself", request.node):
            self.let_go(request, more)
        elif self.book.attached_to(request.attachment_id):
            self.send_release(request, by, more)

    def let_go(self, request: AddressAllocate, more: bool) -> None:
        """The node tears down and releases; what an unanswered allocate may have taken over as well."""
        if request.attachment_id not in self.runs:
            self.forget_older(request)
        self.wanted.pop(request.attachment_id)
        self.forget(request.attachment_id)
        self.send_release(request, request.node, more)

    def send_release(self, request: AddressAllocate, node: str, more: bool) -> None:
        fields = {"network", "container_id", "ifname", "attachment_id"}
        release = AddressRelease(node=node, **request.model_dump(include=fields))
        self.sent.append(release)
        self.submit(release, f"node.{node}", more)

    @rule(node=nodes, container=st.sampled_from(("same", "other")), ifname=ifnames, more=st.booleans())
    def releases_without_its_journal(self, node: str, container: str, ifname: str, more: bool) -> None:
        release = AddressRelease(network="prod", node=node, container_id=container, ifname=ifname)
        for attachment_id, request in list(self.wanted.items()):
            same = (request.network, request.node, request.container_id, request.ifname)
            if same == ("prod", node, container, ifname):
                self.forget_older(self.wanted.pop(attachment_id))
                self.forget(attachment_id)
        # Not to come again: nobody repeats it once another container may have that name.
        self.submit(release, f"node.{node}", more)

    @rule(node=nodes, network=networks, unknown=st.booleans())
    def collects_garbage(self, node: str, network: str, unknown: bool) -> None:
        """The node releases all that it asked for and does not have, and maybe what nobody knows."""
        if unknown:
            body = {"network": network, "node": node, "container_id": "c0", "ifname": "eth0"}
            self.sent.append(AddressRelease.model_validate(body | {"attachment_id": self.new_id()}))
            self.submit(self.sent[-1], f"node.{node}", more=True)
        for attachment_id, request in list(self.wanted.items()):
            if request.node == node and attachment_id not in self.runs | self.ghosts:
                self.let_go(request, more=True)
        self.flush()

    @precondition(lambda self: self.runs)
    @rule(back=recent, second=st.booleans(), by=st.sampled_from(("itself",) * 4 + NODES), more=st.booleans())
    def quarantines(self, back: int, second: bool, by: str, more: bool) -> None:
        """The node saw somebody else use an address of its own: that attachment is over."""
        attachment_id = list(self.runs)[-1 - back % len(self.runs)]
        request, answer = self.runs[attachment_id]
        given = answer.addresses[-1 if second else 0].address
        sender = request.node if by == "itself" else by
        if sender == request.node:
            self.forget(attachment_id)
        body = {"network": request.network, "node": sender, "attachment_id": attachment_id}
        message = AddressQuarantine.model_validate(body | {"address": given, "reason": "seen elsewhere"})
        self.sent.append(message)
        self.submit(message, f"node.{sender}", more)

    # What people ask.

    def administer(self, kind: type[Administrative], more: bool, **fields: object) -> None:
        body = {"request_id": f"r{len(self.asked)}", "network": "prod"}
        request = kind.model_validate(body | fields)
        self.asked.append(request)
        self.submit(request, "operator.x", more)

    @rule(
        owner=owners,
        ifname=ifnames,
        pool=st.sampled_from((None, None, "web", "default", "more")),
        addresses=st.one_of(st.just(()), one_of_each),
        network=networks,
        more=st.booleans(),
    )
    def reserves(self, more: bool, **fields: object) -> None:
        self.administer(AddressReserve, more, **fields)

    def somewhere(self, pick: int) -> IPAddress:
        """An address: of those that are held, those that were used, all, or one that is none."""
        net = self.book.networks["prod"]
        everything = [*net.where, ip_address("10.1.0.1"), ip_address("fd00:9::1")]
        known = {1: net.held(net.rows), 2: net.held(net.rows), 3: list(net.rows)}.get(pick % 4) or everything
        return known[pick // 4 % len(known)]

    @rule(
        back=recent,
        picks=st.lists(st.integers(0, 20), min_size=1, max_size=2),
        owner=owners,
        more=st.booleans(),
    )
    def rebinds(self, back: int, picks: list[int], owner: str, more: bool) -> None:
        """Mostly somebody who is pinned, to what a pinned pool may have."""
        net = self.book.networks["prod"]
        pinned = [row for row in net.rows.values() if row.pinned]
        pinned = pinned if back % 8 else []
        who = pinned[back % len(pinned)] if pinned else None
        owner, ifname = (who.owner or owner, who.ifname or "eth0") if who else (owner, "eth0")
        good = [a for a in net.where if net.pool_at(a).policy == "pinned"] or list(net.where)
        chosen = {address.version: address for address in (good[pick * 7 % len(good)] for pick in picks)}
        self.administer(AddressRebind, more, owner=owner, ifname=ifname, addresses=tuple(chosen.values()))

    @rule(
        pick=recent,
        expected_owner=st.sampled_from((None, None, None, *OWNERS)),
        force=st.booleans(),
        more=st.booleans(),
    )
    def an_operator_releases(self, pick: int, more: bool, **fields: object) -> None:
        self.administer(AddressReleaseByOperator, more, reason="gone", address=self.somewhere(pick), **fields)

    @precondition(lambda self: self.asked)
    @rule(back=recent, what=st.sampled_from(("same", "same", "actor", "id")), more=st.booleans())
    def an_administrative_request_comes_again(self, back: int, what: str, more: bool) -> None:
        """The same, the same for somebody else, or another one under its id."""
        again = self.asked[-1 - back % len(self.asked)]
        if what == "actor":
            again = again.model_copy(update={"actor": "somebody"})
        if what == "id":
            again = self.asked[0].model_copy(update={"request_id": again.request_id})
        self.submit(again, "operator.x", more)

    @rule(seconds=st.sampled_from((60, 118, 119, 120, 121, 400)))
    def time_passes(self, seconds: int) -> None:
        self.flush()
        self.wait(seconds)
        self.expire()

    def expire(self) -> None:
        """Let what waited too long for its owner be freed, where anything does that."""
