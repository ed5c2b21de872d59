"""Whether this node attaches pods now: what STATUS says, but of no network in particular."""

from collections.abc import Callable

from node_worker.gate import Gate
from node_worker.journal import Journal
from node_worker.pulse import Pulse
from node_worker.sync import Sync
from schemas.errors import ServiceError
from schemas.health import Check, Health


def readiness(pulse: Pulse, gate: Gate, sync: Sync, journal: Journal) -> Health:
    """Told from what is known; asks nobody. May be called in any thread."""
    return Health.of(
        _checked("allocator", pulse.check),
        _checked("attachments", gate.check),
        _checked("networks", sync.check_fetched),
        _checked("journal", journal.check),
    )


def _checked(name: str, check: Callable[[], None]) -> Check:
    try:
        check()
    except ServiceError as error:
        return Check(name=name, ok=False, message=error.message)
    return Check(name=name, ok=True)
