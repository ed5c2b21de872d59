"""What one consumer tells of its work, once the answers are out: numbers, and a line in the log."""

import logging
import time
from collections import Counter
from collections.abc import Sequence

import structlog

from broker.dead_letters.header import REPLAY
from broker.frames import Arrived
from broker.message_ids import sent_at
from broker.metrics import Served, known_request, outcome_of
from broker.outcome import Delivery, Verdict
from broker.sender_clocks import SenderClocks
from schemas.requests import HEARTBEAT

_LOGGER = "moorage.broker"

log = structlog.get_logger(_LOGGER)


class Telling:
    """One consumer's."""

    def __init__(self, queue: str, served: Served, clocks: SenderClocks, *, quiet: bool) -> None:
        """With `quiet` its batches are in the log at level debug alone."""
        self._queue = queue
        self._served = served
        self._clocks = clocks
        self._level = logging.DEBUG if quiet else logging.INFO
        self._logger = logging.getLogger(_LOGGER)
        self.watched = served.consumer(queue)

    def waits(self, message: Arrived | None) -> None:
        """This is the oldest message that is not settled; None where there is none."""
        ago = time.monotonic() - message.arrived_at if message is not None else 0.0
        self.watched.oldest = self._sent(message, time.time() - ago) if message is not None else None

    def settled(
        self,
        messages: Sequence[Arrived],
        read: Sequence[object],
        verdicts: Sequence[Verdict],
        taken_at: float,
    ) -> None:
        """These, which were read and came to `verdicts`, are acknowledged; taken at that monotonic time."""
        now, clock = time.time(), time.monotonic()
        requests = [known_request(message.routing_key) for message in messages]
        outcomes = [outcome_of(verdict) for verdict in verdicts]
        sent = (self._sent(message, now - (clock - message.arrived_at)) for message in messages)
        tally = Counter(zip(requests, outcomes, strict=True))
        self._served.settled(tally, ((name, now - at) for name, at in zip(requests, sent, strict=True)))
        self._served.batch(self._queue, len(messages), clock - taken_at)
        if self._logger.isEnabledFor(self._level):
            self._log(messages, read, tally, clock - taken_at)

    def _sent(self, message: Arrived, arrived: float) -> float:
        user, said = message.user_id or "", sent_at(message.message_id, message.timestamp)
        if REPLAY in message.headers:
            said = None  # the id is that of the letter: how long that lay among the dead is no latency
        if said is not None and message.routing_key == HEARTBEAT:
            self._clocks.heartbeat(user, said, arrived)
        return self._clocks.sent(user, said, arrived)

    def _log(
        self,
        messages: Sequence[Arrived],
        read: Sequence[object],
        tally: Counter[tuple[str, str]],
        took_s: float,
    ) -> None:
        attachments, others = [], []
        for message, item in zip(messages, read, strict=True):
            traced = item.request.traced_as if isinstance(item, Delivery) else None
            if traced is not None:
                attachments.append(traced)
            else:
                others.append(message.message_id)
        log.log(
            self._level,
            "requests served",
            queue=self._queue,
            requests={f"{request} {outcome}": number for (request, outcome), number in tally.items()},
            ms=round(took_s * 1000, 1),
            attachment_ids=attachments,
            message_ids=others,
        )
