"""Which node this worker speaks for, and in which of its lives."""

from datetime import datetime
from uuid import UUID, uuid4

from schemas.node import Heard


class Session:
    """The node and its session: new at every start, and after a fence."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._id = uuid4()
        self.heard: Heard | None = None
        """When the allocator last answered and knew this node."""

    def hear(self, epoch: int | None, at: datetime) -> None:
        """Note an answer of the allocator, from this epoch and time of its database; without one it counts
        for nothing: the allocator does not know this session, or not any more.
        """
        if epoch is not None:
            self.heard = Heard(epoch=epoch, at=at)

    @property
    def id(self) -> UUID:
        """The present life; read it anew for each request."""
        return self._id

    def renew(self) -> None:
        """Begin another life: what was said of the old one holds no longer."""
        self._id = uuid4()
