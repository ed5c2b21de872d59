"""The node's sign of life, and whether the allocator is there: ADD asks this first."""

import random

import structlog

from node_worker.asking import Ask, ask_for
from node_worker.clock import DatabaseClock
from node_worker.pacing import Bell
from node_worker.sync import Session, Sync
from schemas.errors import Code, ServiceError
from schemas.node import Heartbeat, NodeHeartbeat

_EVERY_S = 10.0
_AGAIN_S = 2.0
_ANSWER_S = 8.0
_MISSES = 2

log = structlog.get_logger("moorage.node")


class Pulse:
    """Beats every 10 s with jitter, sooner after a miss."""

    def __init__(self, session: Session, ask: Ask, clock: DatabaseClock, sync: Sync, returned: Bell) -> None:
        """`returned` is rung when a heartbeat is answered after one was not."""
        self._session = session
        self._ask = ask
        self._clock = clock
        self._sync = sync
        self._returned = returned
        self._bell = Bell()
        self._missed = 0

    @property
    def healthy(self) -> bool:
        """Whether the allocator answered in this worker's life, and one of the last two heartbeats."""
        return self._clock.known and self._missed < _MISSES

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
        """Beat now: the broker is back."""
        self._bell.ring()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._beat()
            pause = _EVERY_S if self._missed == 0 else _AGAIN_S
            await self._bell.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311  spreads load

    async def _beat(self) -> None:
        request = NodeHeartbeat(node=self._session.node, session=self._session.id, digest=self._sync.digest)
        try:
            answer = await ask_for(Heartbeat, self._ask, request, _ANSWER_S)
        except ServiceError as error:
            self._missed += 1
            log.warning(
                "heartbeat unanswered", node=self._session.node, missed=self._missed, error=str(error)
            )
            return
        self._clock.tell(answer.database_time)
        if self._missed > 0:
            self._missed = 0
            log.info("heartbeat answered again", node=self._session.node)
            self._returned.ring()
        if self._sync.digest is not None and answer.digest != self._sync.digest:
            self._sync.wake()
