"""Which node this worker speaks for, and in which of its lives."""

from uuid import UUID, uuid4


class Session:
    """The node and its session: new at every start, and after a fence."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._id = uuid4()

    @property
    def id(self) -> UUID:
        """The present life; read it anew for each request."""
        return self._id

    def renew(self) -> None:
        """Begin another life: what was said of the old one holds no longer."""
        self._id = uuid4()
