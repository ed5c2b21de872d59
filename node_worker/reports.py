"""Tells the allocator how it went with each network, until it has heard it; also after a restart."""

import structlog

from node_worker import networks
from node_worker.asking import Ask, ask_for, left_open
from node_worker.journal import Journal
from node_worker.networks import NetworkRow
from node_worker.pacing import Backoff, Bell
from node_worker.session import Session
from schemas.errors import ServiceError
from schemas.message import Done
from schemas.node import NodeReport

_REPORT_S = 10.0
_PAUSE_S = (0.5, 15.0)

log = structlog.get_logger("moorage.node")


class Reports:
    """Sends what the journal marks as unreported whenever `news` rings."""

    def __init__(self, session: Session, ask: Ask, journal: Journal, news: Bell) -> None:
        self._session = session
        self._ask = ask
        self._journal = journal
        self._news = news

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(*_PAUSE_S)
        while True:
            if await self._send_all():
                backoff.reset()
                await self._news.wait(None)
            else:
                await self._news.wait(backoff.delay())

    async def _send_all(self) -> bool:
        """Whether all were answered. One that is refused holds up no other; a broker that is away, all."""
        all_sent = True
        try:
            for row in await self._journal.run(networks.unreported):
                all_sent = await self._send(row) and all_sent
        except ServiceError as error:
            log.warning("reports wait", node=self._session.node, error=str(error))
            return False
        return all_sent

    async def _send(self, row: NetworkRow) -> bool:
        if row.outcome == "pending":
            return True
        request = NodeReport(
            node=self._session.node,
            session=self._session.id,
            network=row.network,
            version=row.version,
            result=row.outcome,
            error=row.error,
        )
        try:
            await ask_for(Done, self._ask, request, _REPORT_S)
        except ServiceError as error:
            if left_open(error):
                raise
            log.warning("a report was refused", network=row.network, version=row.version, error=str(error))
            return False
        await self._journal.run(networks.reported, row)
        return True
