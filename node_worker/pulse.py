"""The node's sign of life, and whether the allocator is there: ADD asks this first."""

import random
from collections.abc import Callable

import structlog

from node_worker.asking import Ask, ask_for
from node_worker.clock import DatabaseClock, boottime
from node_worker.difference import Difference
from node_worker.gate import Gate
from node_worker.pacing import Bell
from node_worker.reconcile import Reconcile
from node_worker.session import Session
from node_worker.sync import Sync
from schemas.errors import Code, ServiceError
from schemas.node import Heartbeat, NodeHeartbeat

_EVERY_S = 10.0
_AGAIN_S = 2.0
_ANSWER_S = 8.0
_MISSES = 2
_SILENT_S = 35.0  # longer than it takes to miss two: the process or the machine stood still

log = structlog.get_logger("moorage.node")


class Pulse:
    """Beats every 10 s with jitter, sooner after a miss.

    When the allocator is back, the gate stays closed for ADD until attachments were compared.
    """

    def __init__(
        self,
        session: Session,
        ask: Ask,
        clock: DatabaseClock,
        sync: Sync,
        reconcile: Reconcile,
        gate: Gate,
        now: Callable[[], float] = boottime,
    ) -> None:
        self._session = session
        self._ask = ask
        self._clock = clock
        self._sync = sync
        self._reconcile = reconcile
        self._gate = gate
        self._now = now
        self.returned = Bell()
        """Rung when a heartbeat is answered after one was not."""
        self._bell = Bell()
        self._difference = Difference()
        self._missed = 0
        self._answered_at = now()
        self._reconnected = False

    @property
    def healthy(self) -> bool:
        """Whether the allocator answered in this worker's life, and one of the last two heartbeats."""
        return self._clock.known and self._missed < _MISSES and not self._silent

    @property
    def answered_ago(self) -> float:
        """How long ago the last answered heartbeat was, or the start, in seconds."""
        return self._now() - self._answered_at

    @property
    def _silent(self) -> bool:
        return self.answered_ago > _SILENT_S

    def check(self) -> None:
        """Raise ServiceError `unavailable` unless healthy."""
        if not self.healthy:
            raise ServiceError(
                Code.UNAVAILABLE,
                f"node {self._session.node} does not reach the allocator: see that the message broker, the "
                "allocator and its database run; it goes on by itself then",
                node=self._session.node,
            )

    def wake(self) -> None:
        """Beat now: the broker is back. ADD waits: nobody knows what happened while it was away."""
        self._gate.close()
        self._reconnected = True
        self._bell.ring()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._beat()
            pause = _EVERY_S if self._missed == 0 else _AGAIN_S
            await self._bell.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311  spreads load

    async def _beat(self) -> None:
        reconnected, self._reconnected = self._reconnected, False
        request = NodeHeartbeat(
            node=self._session.node,
            session=self._session.id,
            digest=self._sync.digest,
            attachments=await self._reconcile.digest(),
            heard=self._session.heard,
        )
        try:
            answer = await ask_for(Heartbeat, self._ask, request, _ANSWER_S)
        except ServiceError as error:
            self._unanswered(error)
            return
        self._clock.tell(answer.database_time)
        self._session.hear(answer.epoch if answer.digest else None, answer.database_time)
        back = self._answered() or reconnected
        if answer.fenced:
            self._reconcile.fenced(request.session)
        if back:
            self._gate.close()
            self._reconcile.wake()
        elif self._difference.heard(request.attachments, answer.attachments):
            self._reconcile.wake()
        if self._sync.digest is not None and answer.digest != self._sync.digest:
            self._sync.wake()

    def _unanswered(self, error: ServiceError) -> None:
        self._missed += 1
        log.warning("heartbeat unanswered", node=self._session.node, missed=self._missed, error=str(error))
        if self._missed >= _MISSES:
            self._gate.close()  # also for an ADD that is under way: its allocate may be answered first

    def _answered(self) -> bool:
        """Note an answer; whether the allocator was out of reach before it."""
        away = self._missed > 0 or self._silent
        self._missed, self._answered_at = 0, self._now()
        if away:
            log.info("heartbeat answered again", node=self._session.node)
            self.returned.ring()
        return away
