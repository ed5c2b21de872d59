"""Whether this allocator serves requests now, and what to do where it does not."""

from collections.abc import Sequence

from allocator.survey import Survey
from broker.metrics import Watched
from schemas.health import Check, Health


def readiness(survey: Survey, consumers: Sequence[Watched]) -> Health:
    """Told from what is known; asks nobody."""
    return Health.of(_database(survey), _schema(survey), _consuming(consumers), _paused(survey))


def _database(survey: Survey) -> Check:
    away = survey.away
    message = (
        f"{away}. Requests wait in their queues: bring it back, and all goes on by itself" if away else ""
    )
    return Check(name="database", ok=away is None, message=message)


def _schema(survey: Survey) -> Check:
    at, known = survey.revision, survey.known
    if survey.outdated:
        advice = f"it is at revision {at or 'none'}, this code needs {known}: run `moorage db upgrade`"
        return Check(name="schema", ok=False, message=advice)
    newer = (
        f"it is at revision {at}, newer than {known}: update this allocator"
        if at not in (None, known)
        else ""
    )
    return Check(name="schema", ok=True, message=newer)


def _consuming(consumers: Sequence[Watched]) -> Check:
    why = {watched.queue: watched.hindrance for watched in consumers if watched.hindrance is not None}
    if not consumers:
        return Check(name="queues", ok=False, message="it does not consume yet: it waits for the database")
    told = "; ".join(f"{queue}: {reason}" for queue, reason in sorted(why.items()))
    message = f"not consumed: {told}. It tries again by itself; see that RabbitMQ and the database run"
    return Check(name="queues", ok=not why, message=message if why else "")


def _paused(survey: Survey) -> Check:
    advice = "no new address is given out after a restore until `moorage db resume`" if survey.paused else ""
    return Check(name="paused", ok=True, message=advice)
