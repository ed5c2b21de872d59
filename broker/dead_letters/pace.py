"""How fast letters are replayed: never so fast that live requests wait behind many of them."""

import asyncio
from collections.abc import Collection, Iterator

from broker.connection import is_loss
from broker.dead_letters.post import Post
from broker.topology import PARTITIONS, allocator_queue

MOST_AHEAD = 500
"""So many requests may wait in a partition's queue before more letters are sent to it."""
_LOOK_S = 0.1
_PATIENCE_S = 60.0


class Pace:
    """Waits for the allocator to catch up."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def wait(self, routing_keys: Collection[str]) -> None:
        """Return once the queues behind these keys are short enough, or have not moved for a minute.

        An allocator that is away for longer is no reason to keep letters: the queue keeps requests as well.
        """
        queues = set(_queues(routing_keys))
        shortest = None
        clock = asyncio.get_running_loop().time
        until = clock() + _PATIENCE_S
        while queues and clock() < until:
            deepest = max([await self._depth(queue) for queue in queues])
            if deepest <= MOST_AHEAD:
                return
            if shortest is None or deepest < shortest:
                shortest, until = deepest, clock() + _PATIENCE_S
            await asyncio.sleep(_LOOK_S)

    async def _depth(self, queue: str) -> int:
        try:
            return await self._post.depth(queue)
        except BaseException as error:
            if not is_loss(error):
                raise
            return 0  # it tells us nothing: whoever may not look need not wait


def _queues(routing_keys: Collection[str]) -> Iterator[str]:
    for key in routing_keys:
        number = key.partition(".")[0]
        if number.isdecimal() and int(number) < PARTITIONS:
            yield allocator_queue(int(number))
