"""Which node this worker speaks for, and in which of its lives."""

from uuid import UUID, uuid4

from schemas.node import Heard


class Session:
    """The node and its session: new at every start, and after a fence."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._id = uuid4()
        self.heard: Heard | None = None
        """Of the last heartbeat in which the allocator knew this node."""

    @property
    def id(self) -> UUID:
        """The present life; read it anew for each request."""
        return self._id

    def renew(self) -> None:
        """Begin another life: what was said of the old one holds no longer."""
        self._id = uuid4()
