"""Keeps this node's attachments and the allocator's the same, and ends them all when the node was fenced.

A comparison names to the allocator what the journal holds, and does what it answers: endpoints of attachments
that ended are removed, of those that nobody knows more is told, those that only the allocator has are
released. Comparisons are made at start, when the allocator is back, when digests keep differing, when a nudge
asks for one, and, with growing pauses, while the last one left something undone.

An answer judges none but the attachments its request named, and each by its id. That id is over for good
then, so it does not matter what its container did meanwhile: a later attachment has another id.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

import structlog
from pydantic import ValidationError

from node_worker import attachments
from node_worker.asking import Ask, ask_for
from node_worker.attachments import Attachment, State
from node_worker.clock import DatabaseClock
from node_worker.gate import Gate
from node_worker.journal import Journal
from node_worker.leftovers import Leftovers
from node_worker.pacing import Backoff, Bell
from node_worker.session import Session
from node_worker.teardown import Teardown
from schemas.errors import ServiceError
from schemas.message import MAX_BODY_BYTES
from schemas.node import MOST_ATTACHMENTS, DesiredPage, NodeAttachment, NodeSync, attachments_digest
from schemas.validation import explain

_SYNC_S = 10.0
_PAUSE_S = (0.5, 30.0)
_MOST_DETAILS = 100

log = structlog.get_logger("moorage.node")


class Reconcile:
    """The comparisons of one worker, one after another. It opens the gate for ADD."""

    def __init__(
        self,
        session: Session,
        ask: Ask,
        clock: DatabaseClock,
        journal: Journal,
        teardown: Teardown,
        leftovers: Leftovers,
        gate: Gate,
        ended: Callable[[str], None],
    ) -> None:
        """`ended` is told the network of each attachment that the allocator ended."""
        self._ended = ended
        self._session = session
        self._ask = ask
        self._clock = clock
        self._journal = journal
        self._teardown = teardown
        self._leftovers = leftovers
        self._gate = gate
        self._bell = Bell()
        self._fenced = False
        self._complained: set[UUID] = set()
        self.stale = 0
        """How many endpoints were removed because the allocator had ended their attachment."""

    @property
    def unknown(self) -> int:
        """How many attachments the allocator did not know."""
        return len(self._complained)

    def wake(self) -> None:
        """Compare as soon as the present comparison is over."""
        self._bell.ring()

    def fenced(self, session: UUID) -> None:
        """That session of the node was declared off: end all it had, then go on as another one.

        Whoever kills the worker before that is done leaves it to the next one's first comparison.
        """
        if session != self._session.id or self._fenced:
            return
        self._fenced = True
        self._gate.close(fenced=True)
        self._bell.ring()
        log.error(
            "this node was declared off (fenced): its pods lose their endpoints, for others may have their "
            "addresses now; delete those pods",
            node=self._session.node,
            session=str(session),
        )

    async def digest(self) -> str | None:
        """Of what the journal holds; None when it cannot be read and written now."""
        try:
            await self._journal.prove()
            return attachments_digest(await self._journal.run(attachments.held_ids))
        except ServiceError as error:
            log.warning("no digest of attachments", node=self._session.node, error=str(error))
            return None

    async def run(self) -> None:
        """Until cancelled. Needs no allocator to be there."""
        backoff = Backoff(*_PAUSE_S)
        while True:
            if await self._round():
                backoff.reset()
                await self._bell.wait(None)
            else:
                await self._bell.wait(backoff.delay())

    async def _round(self) -> bool:
        closings = self._gate.closings
        try:
            if self._fenced:
                await self._clean_up()
            await self._compare()
        except ServiceError as error:
            self._gate.hindrance = f"what it met last: {error}"
            log.warning("attachments wait to be compared", node=self._session.node, error=str(error))
            return False
        except Exception as failure:
            self._gate.hindrance = f"it failed ({type(failure).__name__}: {failure}), and its log says where"
            log.exception("attachments could not be compared", node=self._session.node)
            return False
        self._gate.open(closings)
        return True

    async def _clean_up(self) -> None:
        """End every endpoint, those of ADDs under way once these have given up, and change the session."""
        known = await self._journal.run(attachments.everything)
        # Where an allocate is not answered yet, a release might overtake it: that ADD sends it itself.
        await self._teardown.retire_all(row for row in known if row.state is not State.ALLOCATING)
        await self._gate.emptied()
        await self._teardown.retire_all(await self._journal.run(attachments.everything))
        self._session.renew()
        self._fenced = False
        log.warning(
            "this node has cleaned up after the fence and goes on under a new session",
            node=self._session.node,
            session=str(self._session.id),
            ended=len(known),
        )

    async def _compare(self) -> None:
        held = await self._journal.run(attachments.held)
        for start in range(0, max(1, len(held)), MOST_ATTACHMENTS):  # also when it holds none
            some = held[start : start + MOST_ATTACHMENTS]
            await self._compare_some({row.attachment_id: row for row in some})

    async def _compare_some(self, named: Mapping[UUID, Attachment]) -> None:
        question = NodeSync(
            node=self._session.node,
            session=self._session.id,
            limit=1,
            attachments=tuple(named),
            heard=self._session.heard,
        )
        unknown = await self._asked(question, named)
        details = _details(named[attachment_id] for attachment_id in unknown)
        while details:
            fuller = _fitted(question, details)
            unknown = await self._asked(fuller, named)
            await self._leftovers.told(fuller.details)
            details = details[len(fuller.details) :]
        for attachment_id in unknown:
            self._complain(named[attachment_id])

    async def _asked(self, question: NodeSync, named: Mapping[UUID, Attachment]) -> list[UUID]:
        """Ask, and do what the answer says; which of the named attachments are unknown."""
        page = await ask_for(DesiredPage, self._ask, question, _SYNC_S)
        self._clock.tell(page.database_time)
        self._session.hear(page.epoch, page.database_time)
        # One that is not held any more is being ended already, or asks for its addresses anew.
        over = named.keys() & set(page.stale)
        ending = [row for row in await self._journal.run(attachments.held) if row.attachment_id in over]
        for row in ending:
            log.warning("a stale attachment loses its endpoint", **_about(row))
            self.stale += 1
        await self._teardown.retire_all(ending)
        for network in {row.network for row in ending}:
            self._ended(network)
        await self._leftovers.settle(page.leftover)
        return [attachment_id for attachment_id in page.unknown if attachment_id in named]

    def _complain(self, row: Attachment) -> None:
        if row.attachment_id not in self._complained:
            self._complained.add(row.attachment_id)
            log.warning(
                "the allocator does not know this attachment, and its address may become another pod's",
                **_about(row),
                advice="delete the pod: its next sandbox is attached anew",
            )


def _details(rows: Iterable[Attachment]) -> list[NodeAttachment]:
    details = []
    for row in rows:
        try:
            details.append(
                NodeAttachment(
                    attachment_id=row.attachment_id,
                    network=row.network,
                    owner=row.owner,
                    container_id=row.container_id,
                    ifname=row.ifname,
                    addresses=tuple(address.ip for address in row.addresses),
                    mac=row.mac or "",
                )
            )
        except ValidationError as error:
            log.warning("an attachment cannot be told of", **_about(row), error=explain(error))
    return details


def _fitted(question: NodeSync, details: Sequence[NodeAttachment]) -> NodeSync:
    """The question with the first of `details`, as many as one request may carry."""
    room = MAX_BODY_BYTES - len(question.model_dump_json().encode())
    fitting: list[NodeAttachment] = []
    for item in details[:_MOST_DETAILS]:
        room -= len(item.model_dump_json().encode()) + 1
        if room < 0 and fitting:
            break
        fitting.append(item)
    return question.model_copy(update={"details": tuple(fitting)})


def _about(row: Attachment) -> dict[str, object]:
    return {
        "attachment_id": str(row.attachment_id),
        "network": row.network,
        "container_id": row.container_id,
        "ifname": row.ifname,
        "owner": row.owner,
        "address": [str(address.ip) for address in row.addresses],
    }
