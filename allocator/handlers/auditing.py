"""`audit.record`: what operators do with dead letters, as rows of history."""

from allocator.handlers.administrative import settled
from allocator.work import Work
from broker.outcome import Delivery, Outcome
from schemas.dead import AuditRecord
from schemas.message import Done


def record(request: AuditRecord, delivery: Delivery, work: Work) -> Outcome:
    """Write it down, once for each `request_id`."""
    system = work.lock_system()

    def write() -> Done:
        letters = [letter.model_dump(mode="json", exclude_none=True) for letter in request.letters]
        details = {**request.details, "letters": letters}
        work.record(system, request.event, delivery.user_id, details=details)
        return Done()

    return settled(request, delivery, work, system, write)
