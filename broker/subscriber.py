"""Events as one subscriber reads them: in order, each row once, for as long as it goes on reading."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from pydantic import ValidationError

from broker.connection import Backoff, Link, explain_loss, is_loss, obey
from broker.intake import intake
from broker.login import Where
from broker.topology import events_queue
from schemas.history import Events, HistoryRow
from schemas.validation import explain

_PREFETCH = 8

log = structlog.get_logger("moorage.broker")


async def events(url: Where, *, name: str) -> AsyncGenerator[Events, None]:
    """What happens in all networks, for ever, out of the queue of the user in `url`.

    A message is acked when the next one is asked for: a reader that dies before that gets it again. Rows
    that this generator gave already are left out; a reader that remembers more than one run drops the rows
    up to the last `seq` it knows of each network. A broker that is away is waited for.

    Each process needs a user of its own: two that share one queue get half of the events each. Raises
    `not_provisioned` for a bad URL.
    """
    backoff, seen = Backoff(), _Seen()
    async with Link(url, name=name) as link:
        while True:
            try:
                async with intake(link, events_queue(link.user), prefetch=_PREFETCH) as taken:
                    backoff.reset()
                    while True:
                        (message,) = await taken.take(1)
                        found = read(message.body)
                        if found and (fresh := seen.fresh(found)):
                            yield fresh
                        taken.ack(message)
            except BaseException as error:
                if not is_loss(error):
                    raise
                obey()
                log.warning("cannot listen for events", user=link.user, reason=explain_loss(error))
            await backoff.wait()


def read(body: bytes) -> Events | None:
    """The events in a message, less those that cannot be read; None where that is all of it.

    A newer allocator may tell of things that this program has no word for: they are logged, and the rest
    goes on.
    """
    try:
        return Events.model_validate_json(body)
    except ValidationError as error:
        log.warning("events left out", reason=explain(error))
    try:
        parts: Any = json.loads(body)
        rows = [row for part in parts.pop("rows") if (row := _row(part)) is not None]
        return Events.model_validate({**parts, "rows": rows})
    except (ValueError, AttributeError, KeyError, TypeError):
        return None


def _row(part: Any) -> HistoryRow | None:
    try:
        return HistoryRow.model_validate(part)
    except ValidationError:
        return None


class _Seen:
    """The last seq that a reader has seen of each network."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def fresh(self, events: Events) -> Events | None:
        """What of `events` was not seen before; None for nothing."""
        if not events.rows:
            return None
        last = self._last.get(events.network)
        self._last[events.network] = max(last or 0, events.rows[-1].seq)
        if last is None:
            return events
        if events.after is not None and events.after > last:
            log.warning(
                "events were missed: the queue did not keep them; `moorage history` has them",
                network=events.network,
                after=last,
            )
        rows = tuple(row for row in events.rows if row.seq > last)
        return events.model_copy(update={"rows": rows, "after": last}) if rows else None
