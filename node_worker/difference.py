"""When digests of attachments that differ are worth a comparison. Pure."""

_BEATS = 2
_PATIENCE = 30


class Difference:
    """Follows the digests that heartbeats exchange.

    A call in flight makes them differ for as long as it takes: an address is committed before the node hears
    of it, and a release is owed before it is applied. So one heartbeat proves nothing, and two in a row do.
    (To wait for a moment without calls instead would be to wait for ever on a busy node; a comparison too
    many is one message.) What a comparison left as it was is not asked about again for 30 heartbeats: a node
    may well have an attachment for long that only one side knows.
    """

    def __init__(self) -> None:
        self._beats = 0
        self._asked: tuple[str | None, str] | None = None

    def heard(self, ours: str | None, theirs: str | None) -> bool:
        """Note what a heartbeat said and was answered; whether to compare now.

        `theirs` is "" where the allocator wants to hear all, None where it is too old to compare.
        """
        if theirs == "":
            return True
        if ours is None or theirs is None or ours == theirs:
            self._beats, self._asked = 0, None
            return False
        self._beats += 1
        if self._beats < (_PATIENCE if (ours, theirs) == self._asked else _BEATS):
            return False
        self._beats, self._asked = 0, (ours, theirs)
        return True
