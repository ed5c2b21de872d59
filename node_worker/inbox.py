"""What reaches the node unasked: nudges, and that the broker is back."""

from pydantic import ValidationError

from node_worker.pacing import Bell
from schemas.node import Nudge


class Inbox:
    """Bells, for the worker to follow. Nothing depends on them but how soon things happen."""

    def __init__(self) -> None:
        self.networks = Bell()
        """Something changed about a network."""
        self.attachments = Bell()
        """Something changed about attachments."""
        self.connected = Bell()
        """The node's queue is listened to again: nudges may have been missed."""

    def told(self, nudge: bytes | None) -> None:
        """Ring for a nudge's body; None says that the queue is listened to (again)."""
        if nudge is None:
            self.connected.ring()
        elif _network(nudge) is not None:
            self.networks.ring()
        else:
            self.networks.ring()
            self.attachments.ring()


def _network(nudge: bytes) -> str | None:
    try:
        return Nudge.model_validate_json(nudge).network
    except ValidationError:  # a newer allocator's: look at everything
        return None
