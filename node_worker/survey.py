"""What the journal holds, counted every few seconds: whoever looks at the numbers waits for no disk."""

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from node_worker.journal import Journal
from schemas.errors import ServiceError

_EVERY_S = 5.0

log = structlog.get_logger("moorage.node")


@dataclass(frozen=True, slots=True)
class Counts:
    """Attachments and networks by state, and releases that the allocator has not answered."""

    attachments: Mapping[str, int] = field(default_factory=dict)
    networks: Mapping[str, int] = field(default_factory=dict)
    releases: int = 0


class Survey:
    """The last count; None while the journal cannot be read."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.counts: Counts | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Count. Whether the journal can be written, each heartbeat finds out."""
        try:
            self.counts = await self._journal.run(_counted)
        except ServiceError as error:
            self.counts = None
            log.warning("the journal cannot be surveyed", error=str(error))


def _counted(connection: sqlite3.Connection) -> Counts:
    (releases,) = connection.execute("SELECT COUNT(*) FROM releases").fetchone()
    return Counts(
        attachments=dict(
            connection.execute("SELECT state, COUNT(*) FROM attachments GROUP BY state").fetchall()
        ),
        networks=dict(
            connection.execute("SELECT outcome, COUNT(*) FROM networks GROUP BY outcome").fetchall()
        ),
        releases=releases,
    )
