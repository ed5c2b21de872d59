"""Publishing with confirms on a channel of our own, written onto the wire (see docs/decisions/0006)."""

from collections.abc import Callable
from dataclasses import dataclass

from broker.frames import Outgoing, send
from broker.wire import Wire


class Unrouted(Exception):
    """The broker has no queue for the message."""


class NotTaken(Exception):
    """The broker refuses the message: a queue is full, or cannot write."""


Told = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class _Sent:
    message_id: str
    told: Told


class Sending:
    """The messages of one channel whose confirms are still to come."""

    def __init__(self, wire: Wire, channel: int, frame_max: int) -> None:
        """`wire.divert` has to name this as the channel's fates before the first message."""
        self._wire = wire
        self._channel = channel
        self._frame_max = frame_max
        self._tag = 0
        self._waiting: dict[int, _Sent] = {}  # in the order of their numbers
        self._returned: set[str] = set()

    def send(self, exchange: str, key: str, message: Outgoing, told: Told) -> None:
        """Publish; `told` is called once: with None when the broker has it, else with why it does not.

        It is never called when the channel is lost. Raises `ConnectionResetError`.
        """
        self._wire.write(send(self._channel, exchange, key, message, frame_max=self._frame_max))
        self._tag += 1  # RabbitMQ counts what it gets on the channel (confirms)
        self._waiting[self._tag] = _Sent(message.message_id, told)

    def returned(self, message_id: str | None) -> None:
        """See `wire.Fates`."""
        if message_id is not None:
            self._returned.add(message_id)

    def confirmed(self, tag: int, *, multiple: bool, taken: bool) -> None:
        """See `wire.Fates`."""
        tags = [waiting for waiting in self._waiting if waiting <= tag] if multiple else [tag]
        for number in tags:
            sent = self._waiting.pop(number, None)
            if sent is not None:
                sent.told(self._fate(sent, taken))

    def _fate(self, sent: _Sent, taken: bool) -> Exception | None:
        if sent.message_id in self._returned:
            self._returned.discard(sent.message_id)
            return Unrouted()
        return None if taken else NotTaken()
