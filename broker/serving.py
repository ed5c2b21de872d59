"""A service called from the event loop: in a thread, alone where a batch fails, held while it is away."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from broker.connection import Backoff
from broker.outcome import AtOnce, Delivery, Failed, Outcome, Service, Unavailable, Verdict
from broker.threads import Threads
from schemas.errors import Code, ServiceError

_TRIES = 3
_STOP_S = 5.0
_HOLD_S = 1500.0
"""RabbitMQ takes a message back by force after 30 minutes (rabbitmq-website, consumers)."""

_CALM_S = 0.02
"""For how long all other queues must have had nothing, in seconds."""

log = structlog.get_logger("moorage.broker")


class Calm:
    """When each of a consumer's queues last had something: alone, one may keep the event loop."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}

    def alone(self, queue: str) -> bool:
        """Note that this queue has something; whether no other had for a while."""
        now = self._seen[queue] = self._clock()
        return all(now - at > _CALM_S for other, at in self._seen.items() if other != queue)


class Serving:
    """One service with one thread for one queue."""

    def __init__(
        self, service: Service, queue: str, *, at_once: AtOnce | None = None, calm: Calm | None = None
    ) -> None:
        """What `at_once` takes is served on the event loop while no other queue of `calm` has anything."""
        self._service = service
        self._queue = queue
        self._at_once = at_once
        self._calm = calm or Calm()
        self._thread = Threads(queue, 1)
        self._log = log.bind(queue=queue)

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._thread.close(wait=False)

    async def together(self, deliveries: Sequence[Delivery], *, held: Backoff | None) -> Sequence[Outcome]:
        """One outcome for each delivery, in order. Raises `Unavailable`, or what the service raised.

        With `held`, `Unavailable` is waited out here, for as long as RabbitMQ lets messages be kept.
        """
        alone = self._calm.alone(self._queue)
        if self._at_once is not None and alone and held is None:
            done = self._at_once(deliveries)
            if done is not None:
                return done
        clock = asyncio.get_running_loop().time
        give_back = clock() + _HOLD_S
        while True:
            try:
                outcomes = await self._call(deliveries)
            except Unavailable as away:
                if held is None or clock() > give_back:
                    raise
                self._log.warning("holds requests", reason=str(away), size=len(deliveries))
                await held.wait()
                continue
            if len(outcomes) != len(deliveries):
                raise RuntimeError(f"{len(deliveries)} requests had {len(outcomes)} outcomes")
            return outcomes

    async def alone(self, delivery: Delivery, *, held: Backoff | None) -> Verdict:
        """The outcome of one delivery, after a few attempts at most. Raises `Unavailable`."""
        attempts = AsyncRetrying(
            retry=retry_if_exception(_is_unexpected),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.05, max=0.5),
            reraise=True,
        )
        try:
            outcomes: Sequence[Outcome] = await attempts(self.together, [delivery], held=held)
        except Exception as error:
            if not _is_unexpected(error):
                raise
            self._log.exception("request failed", request=delivery.request.NAME, user=delivery.user_id)
            return Failed(internal(error))
        return outcomes[0]

    async def is_able(self) -> bool:
        """Whether the service would work now, judged by a call with nothing to do."""
        try:
            await self._call([])
        except Unavailable:
            return False
        except Exception as error:
            self._log.warning("the service fails with nothing to do", reason=repr(error))
        return True

    async def _call(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        work = self._thread.start(self._service, deliveries)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # A thread cannot be stopped: let it come to its commit or rollback before all is taken down.
            await asyncio.wait([work], timeout=_STOP_S)
            raise


def internal(error: Exception) -> ServiceError:
    """What the caller is told of a failure that nobody expected."""
    return ServiceError(
        Code.INTERNAL,
        f"the allocator failed on this request ({type(error).__name__}: {error}): its log has the details, "
        "and `moorage.dead` keeps the request, unless it was a query",
    )


def _is_unexpected(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, Unavailable)
