"""A node's own queue: a nudge says that there is something to do, and nothing else."""

from collections.abc import AsyncGenerator

import structlog

from broker.connection import Backoff, Link, explain_loss, is_loss, obey
from broker.intake import intake
from broker.login import Where
from broker.topology import node_queue

_PREFETCH = 16

log = structlog.get_logger("moorage.broker")


async def nudges(url: Where, node: str, *, name: str) -> AsyncGenerator[bytes | None, None]:
    """The bodies of the nudges that reach `node`, for ever; a broker that is away is waited for.

    None comes whenever the queue is being listened to (again): what was sent before may be lost, so sync.
    Nudges that arrived together are given as their last one. Raises `not_provisioned` for a bad URL.
    """
    backoff = Backoff()
    async with Link(url, name=name) as link:
        while True:
            try:
                # Not acknowledged: a nudge that dies with this process is made up for by the next sync.
                async with intake(link, node_queue(node), prefetch=_PREFETCH, acknowledged=False) as taken:
                    backoff.reset()
                    yield None
                    while True:
                        yield (await taken.take(_PREFETCH))[-1].body
            except BaseException as error:
                if not is_loss(error):
                    raise
                obey()
                log.warning("cannot listen for nudges", node=node, reason=explain_loss(error))
            await backoff.wait()
