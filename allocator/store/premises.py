"""What a transaction takes for granted instead of reading it, for the server to check before it writes."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from allocator.store.writes import Writes

_APART_US = 100_000
"""How far the time that a decision was made for may be from the database's, in microseconds."""


@dataclass(frozen=True, slots=True)
class Premise:
    """That a network has not changed since its history came to `seq`, and that nothing is known of these."""

    network_id: int
    name: str
    seq: int
    epoch: int
    now: datetime
    """What the database's clock is thought to say."""
    owners: Collection[str]
    attachments: Collection[UUID]


# Locks the network, as `networks.lock` does. What else it asks (READ COMMITTED: without locks) may be seen
# before that lock is there, but who changes it for this network changes its seq too. That no row has one of
# the attachments, a unique key sees.
_ADVANCE = """UPDATE networks SET seq = %s WHERE id = %s AND seq = %s AND name = %s
AND ABS(TIMESTAMPDIFF(MICROSECOND, %s, UTC_TIMESTAMP(6))) < %s
AND EXISTS (SELECT 1 FROM epochs WHERE id = 1 AND epoch = %s AND paused = 0)
AND NOT EXISTS (SELECT 1 FROM history WHERE attachment_id IN %s)
AND NOT EXISTS (SELECT 1 FROM allocations WHERE network_id = %s AND owner IN %s)"""


def demand(writes: Writes, premise: Premise, seq: int) -> None:
    """Lock the network and move its history on to `seq`; let nothing follow unless the premise holds."""
    known = (premise.network_id, premise.seq, premise.name, premise.now, _APART_US, premise.epoch)
    attachments = [attachment_id.bytes for attachment_id in premise.attachments]
    writes.add(_ADVANCE, (seq, *known, attachments, premise.network_id, list(premise.owners)))
    writes.require_rows(1)
