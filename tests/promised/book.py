"""The book that is kept beside the allocator: each outcome is entered, if it is right."""

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from broker.outcome import Deferred, Delivery, Outcome, Refused, Reply
from schemas.address import Allocated
from schemas.fields import IPAddress
from schemas.message import Administrative
from schemas.network import NetworkUpdate
from tests.promised.state import Net, Row

Event = tuple[str, str, IPAddress | None, str | None, str | None, UUID | None, str]
"""What history must say: network, event, address, owner, node, attachment and who asked."""


@dataclass
class NodeFacts:
    session: UUID
    fenced: UUID | None = None
    state: str = "ready"


class Reasons:
    """Why a request has to be refused (`must`), or may be."""

    def __init__(self) -> None:
        self.must: set[str] = set()
        self.may: set[str] = set()

    def add(self, code: str | None) -> None:
        if code is not None:
            self.must.add(code)

    def settle(self, outcome: Outcome) -> Any:
        """The answer; None where the request was refused, rightly."""
        if isinstance(outcome, Refused):
            assert outcome.error.code in self.must | self.may, (outcome.error, self.must)
            return None
        assert isinstance(outcome, Reply), outcome
        assert not self.must, (self.must, outcome.message)
        return outcome.message


@dataclass
class Book:
    """All that was promised so far."""

    networks: dict[str, Net] = field(default_factory=dict)
    nodes: dict[str, NodeFacts] = field(default_factory=dict)
    ended: set[UUID] = field(default_factory=set)
    answers: dict[UUID, Allocated] = field(default_factory=dict)
    settled: dict[str, tuple[Administrative, Outcome]] = field(default_factory=dict)
    paused: bool = False
    now: datetime = datetime(2030, 1, 1)
    user: str = ""
    events: list[Event] = field(default_factory=list)
    """What the present batch has to leave in history."""

    def enter(self, delivery: Delivery, outcome: Outcome, rule: "Rule") -> None:
        """Check one outcome against what was promised, and go on from it."""
        self.user = delivery.user_id
        request = delivery.request
        network = getattr(request, "network", None)
        if isinstance(request, Administrative):
            if network is not None and network not in self.networks:
                assert isinstance(outcome, Refused)
                assert outcome.error.code == "network_unknown"
                return
            if request.request_id in self.settled:
                self._repeated(request, outcome)
                return
            if self._is_kept(request, outcome):
                self.settled[request.request_id] = (request, outcome)
        rule(self, request, outcome)

    @staticmethod
    def _is_kept(request: Administrative, outcome: Outcome) -> bool:
        """Whether asking again gets the same; not a "no" that another try may turn, nor that of a job."""
        if not isinstance(outcome, Refused):
            return True
        return not outcome.error.retryable and not isinstance(request, NetworkUpdate)

    def _repeated(self, request: Administrative, outcome: Outcome) -> None:
        before, known = self.settled[request.request_id]
        same = request.model_copy(update={"actor": before.actor})  # asked for by whomever
        if (type(before), before) != (type(same), same):
            assert isinstance(outcome, Refused)
            assert outcome.error.code == "request_conflict"
        elif isinstance(known, Refused):
            assert isinstance(outcome, Refused)
            assert outcome.error.code == known.error.code
        elif isinstance(known, Deferred):
            assert isinstance(outcome, (Deferred, Reply))
        else:
            assert outcome == known

    def rows(self) -> list[tuple[Net, Row]]:
        return [(net, row) for net in self.networks.values() for row in net.rows.values()]

    def attached_to(self, attachment: UUID | None) -> list[tuple[Net, Row]]:
        return [(n, row) for n in self.networks.values() for row in n.attached_to(attachment)]

    def attached_on(self, node: str) -> list[tuple[Net, Row]]:
        return [(n, row) for n, row in self.rows() if row.state == "attached" and row.node == node]

    def note(self, net: Net, event: str, row: Row) -> None:
        """History has to say this of the row as it is now."""
        who = (row.owner, row.node, row.attachment)
        self.events.append((net.name, event, row.address, *who, self.user))

    def note_node(self, event: str, node: str) -> None:
        self.events.append(("_system", event, None, None, node, None, self.user))

    def end(self, net: Net, row: Row, state: str | None = None) -> None:
        """The row's attachment, if it has one, is over: it waits if it is pinned, else it is free."""
        state = state or ("waiting" if row.pinned else "free")
        event = {"waiting": "address.waiting", "free": "address.freed", "quarantined": "address.quarantined"}
        self.note(net, event[state], row)
        if row.attachment is not None:
            self.ended.add(row.attachment)
        row.become(state, self.now)

    def row_at(self, net: Net, address: IPAddress) -> Row:
        """The row of an address, a new one if it was never used."""
        return net.rows.setdefault(address, Row(address, "free", self.now))

    def backup(self) -> "Book":
        """The book as it is now, to go on from after a restore."""
        kept = copy(self)
        kept.networks, kept.nodes = deepcopy(self.networks), deepcopy(self.nodes)
        kept.ended, kept.answers, kept.settled = set(self.ended), dict(self.answers), dict(self.settled)
        kept.events = []
        return kept


Rule = Callable[[Book, Any, Outcome], None]
