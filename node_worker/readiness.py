"""Whether this node attaches pods now: what STATUS says, but of no network in particular."""

from collections.abc import Callable, Sequence

from node_worker.gate import Gate
from node_worker.journal import Journal
from node_worker.pulse import Pulse
from node_worker.sync import Sync
from schemas.errors import ServiceError
from schemas.health import Check, Health

_NAMED = 5


def readiness(pulse: Pulse, gate: Gate, sync: Sync, journal: Journal) -> Health:
    """Told from what is known; asks nobody. May be called in any thread."""
    return Health.of(
        _checked("allocator", pulse.check),
        _checked("attachments", gate.check),
        _checked("networks", sync.check_fetched, _refused(sync.refused)),
        _checked("journal", journal.check),
    )


def _checked(name: str, check: Callable[[], None], told: str = "") -> Check:
    try:
        check()
    except ServiceError as error:
        return Check(name=name, ok=False, message=error.message)
    return Check(name=name, ok=True, message=told)


def _refused(networks: Sequence[str]) -> str:
    """What is worth knowing of networks that the node has in error: pods of others are attached."""
    if not networks:
        return ""
    named = ", ".join(networks[:_NAMED]) + (" and others" if len(networks) > _NAMED else "")
    return f"in error here: {named}. `moorage network show NAME` says why; it is tried again by itself"
