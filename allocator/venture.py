"""A few allocates, decided on what the last batch left in mind and sent in one way to the database.

Reading first costs a pod that is attached alone a way of its own, most often to learn nothing: nobody else
changed the network meanwhile, and the pod is new. So that is presumed, the same decision as ever is made, and
the server is told with the writes what was presumed. Where that does not hold it does nothing, and the batch
is served as if nothing had been tried; so is a request that comes to a "no".
"""

from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from allocator.admission import choose_pool
from allocator.database import Conflict, Database
from allocator.handlers import addresses
from allocator.loading import macs_may_collide
from allocator.memory import Memory
from allocator.store.premises import Premise
from allocator.store.writes import Writes
from allocator.work import Committed, Unread, Work
from broker.outcome import Delivery, Outcome, Reply, Unavailable
from schemas.address import AddressAllocate
from schemas.errors import ServiceError

_FEW = 4
"""More requests at once share the cost of being read first, and one pod that is not new spoils it for all."""

log = structlog.get_logger("moorage.allocator")

Served = tuple[list[Outcome], Committed]


def venture(deliveries: Sequence[Delivery], memory: Memory, database: Database) -> Served | None:
    """Serve `deliveries` if they are allocates for new pods on a network that is remembered, and commit.

    None where they have to be served in the ordinary way, which also tells why anything failed.
    """
    requests = [request for d in deliveries if isinstance(request := d.request, AddressAllocate)]
    if not 0 < len(requests) == len(deliveries) <= _FEW:
        return None
    try:
        work = _presuming(requests, memory)
        outcomes = [
            addresses.allocate(request, d, work) for request, d in zip(requests, deliveries, strict=True)
        ]
    except (ServiceError, Unread):
        return None
    if not all(isinstance(outcome, Reply) for outcome in outcomes):
        return None
    writes, committed = work.settle(keep_supplies=True)
    return (outcomes, committed) if _written(writes, committed, memory, database) else None


def _written(writes: Writes, committed: Committed, memory: Memory, database: Database) -> bool:
    try:
        database.attempt(writes.send)
    except (Conflict, IntegrityError) as error:
        network = committed.remembered[0].network
        log.info("not as presumed", network=network.name, reason=str(error))
        memory.doubt(network.id)
    except (DBAPIError, PoolTimeout, Unavailable):
        pass
    else:
        return True
    return False


def _presuming(requests: Sequence[AddressAllocate], memory: Memory) -> Work:
    """Where these are decided as for new pods. Raises `Unread` where that is not enough, or ServiceError."""
    names = {request.network for request in requests}
    if len(names) > 1 or any(request.addresses or request.mac for request in requests):
        raise Unread
    clock, guess = memory.clock, memory.guess(names.pop())
    if clock is None or guess is None or macs_may_collide(guess.network):
        raise Unread
    network, now = guess.network, clock.now()
    for request in requests:
        pool = choose_pool(network.pools, request.owner, request.pool)
        for family in network.families:
            supply = guess.supplies.get((pool.id, family))
            if supply is None or not supply.suffices(len(requests), pool.cooled(now)):
                raise Unread
    owners = {request.owner for request in requests}
    attachments = {request.attachment_id for request in requests}
    premise = Premise(network.id, network.name, guess.seq, clock.epoch, now, owners, attachments)
    return Work.presuming(premise, guess)
