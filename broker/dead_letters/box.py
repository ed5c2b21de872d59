"""The dead letters themselves, held while they are looked at, and given back untouched.

A letter that is looked at is out: nobody else sees it. So it is held for as long as one command looks, over a
connection whose loss RabbitMQ notices within seconds. One that is settled is gone for good; all others are
back, in their order, once the box is closed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from broker.connection import OPEN_S, Link, explain_loss, is_loss
from broker.dead_letters.hand import HANDFUL, Hand
from broker.dead_letters.letter import Letter, read_letter
from broker.frames import Arrived
from broker.login import Where
from broker.topology import DEAD
from schemas.errors import Code, ServiceError

_HEARTBEAT_S = 2
"""A looker that is cut off has given its letters back within two of these, in seconds."""
_QUIET_S = 0.3
_STUCK_S = 5.0
_OTHERS_S = 5.0
_LOOK_S = 0.05
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Held:
    """A letter that is out, and where it is held."""

    letter: Letter
    hand: Hand = field(repr=False)
    number: int


class Box:
    """What lay in `moorage.dead` when it was opened: `count` letters, the oldest death first."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._counting: AbstractChannel | None = None
        self._hands: list[Hand] = []
        self._waiting: deque[tuple[Hand, Arrived]] = deque()
        self._bell = asyncio.Event()
        self._gone: deque[tuple[str, datetime]] = deque(maxlen=_REMEMBERED)
        self._lost: BaseException | None = None
        self.count = 0
        self.seen = 0
        self.shared = False
        """Whether somebody else held letters, too, so that some were not to be seen."""

    @property
    def user(self) -> str:
        """The user that looks."""
        return self._link.user

    async def open(self) -> None:
        """Count the letters, after those that others look at are back, or some seconds. Raises one of
        `connection.LOST`.
        """
        self.count, others = await self._state_once(lambda _, others: others == 0)
        self.shared = others > 0
        await self._open_hand()  # also where there is nothing: whoever may not read shall be told so

    async def close(self) -> None:
        """Give back every letter that was not settled, and see that none that was settled has come back."""
        hands, self._hands = self._hands, []
        lost = self._lost is not None  # by itself, for closing looks the same
        await asyncio.gather(*(hand.close() for hand in hands))
        held = sum(hand.held for hand in hands)
        if lost or not hands or not self._link.is_open:
            return
        # RabbitMQ gives them back a moment after it has closed the channel: whoever looks next sees them.
        ready, _ = await self._state_once(lambda ready, _: ready >= held)
        if ready > held and any(hand.scattered for hand in hands):
            await self._sweep()

    async def _sweep(self) -> None:
        """Settle once more what was settled and came back all the same."""
        again = Box(self._link)
        await again.open()
        while batch := await again.take(HANDFUL):
            back = [held for held in batch if (held.letter.id, held.letter.last_death) in self._gone]
            if back:
                await again.settle(back)
        await again.close()

    async def _state_once(self, wanted: Callable[[int, int], bool]) -> tuple[int, int]:
        """How many letters are free and how many look: as `wanted`, or after some seconds."""
        clock = asyncio.get_running_loop().time
        until = clock() + _OTHERS_S
        while True:
            ready, others = await self._state()
            if wanted(ready, others) or clock() > until:
                return ready, others
            await asyncio.sleep(_LOOK_S)

    async def take(self, limit: int) -> list[Held]:
        """The next letters, at most `limit`; none once all `count` were seen, or the rest is out elsewhere.

        Raises `unavailable`.
        """
        while not self._waiting and self.seen < self.count:
            self._check()
            if self._hands[-1].held >= HANDFUL:
                await self._open_hand()
            elif not await self._wait():
                break
        most = min(limit, len(self._waiting), self.count - self.seen)
        taken = [self._waiting.popleft() for _ in range(most)]
        self.seen += most
        return [Held(read_letter(message), hand, message.delivery_tag) for hand, message in taken]

    async def settle(self, done: Sequence[Held]) -> None:
        """Take these letters out for good, in the order in which they were taken.

        Raises `unavailable`: they come back then, or they do not.
        """
        self._check()
        for hand in {id(held.hand): held.hand for held in done}.values():
            mine = [held for held in done if held.hand is hand]
            self._gone.extend((held.letter.id, held.letter.last_death) for held in mine)
            try:
                await hand.settle([held.number for held in mine])
            except BaseException as error:
                if not is_loss(error):
                    raise
                raise self._away(error) from error

    async def _open_hand(self) -> None:
        hand = await Hand.open(self._link)
        self._hands.append(hand)
        await hand.begin(partial(self._arrived, hand), self._lose)

    async def _wait(self) -> bool:
        """Until something comes; False when nothing more is to be had."""
        clock = asyncio.get_running_loop().time
        patience = clock() + _STUCK_S
        while not self._waiting:
            self._bell.clear()
            try:
                async with asyncio.timeout(_QUIET_S):
                    await self._bell.wait()
            except TimeoutError:
                if not self._waiting and not (await self._state())[0]:
                    return False
                if clock() > patience:
                    raise self._away(TimeoutError()) from None
            self._check()
        return True

    async def _state(self) -> tuple[int, int]:
        """How many letters nobody holds, and how many channels hold some."""
        if self._counting is None:
            self._counting = await self._link.channel(confirms=False)
        async with asyncio.timeout(OPEN_S):
            queue = await self._counting.get_queue(DEAD)
        found = queue.declaration_result
        return found.message_count or 0, found.consumer_count or 0

    def _arrived(self, hand: Hand, message: Arrived) -> None:
        hand.given += 1
        self._waiting.append((hand, message))
        self._bell.set()

    def _lose(self, error: BaseException) -> None:
        self._lost = self._lost or error
        self._bell.set()

    def _check(self) -> None:
        if self._lost is not None:
            raise self._away(self._lost)

    def _away(self, error: BaseException) -> ServiceError:
        return ServiceError(
            Code.UNAVAILABLE,
            f"RabbitMQ at {self._link.shown} does not hand out the dead letters ({explain_loss(error)}): "
            "look at its log; none is lost, so run this again",
        )


@asynccontextmanager
async def letter_box(url: Where, *, timeout_s: float = 10.0) -> AsyncIterator[Box]:
    """The dead letters, for as long as the context lasts; it is to be had within `timeout_s` seconds.

    Raises `not_provisioned`, `sender_forbidden` (this user may not read them) or `unavailable`.
    """
    async with Link(url, name="dead letters", heartbeat_s=_HEARTBEAT_S) as link:
        box = Box(link)
        try:
            await _opened(link, box, timeout_s)
            yield box
        finally:
            await box.close()


async def _opened(link: Link, box: Box, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await box.open()
    except ChannelNotFoundEntity as error:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"there is no queue {DEAD} on RabbitMQ at {link.shown}: run `moorage broker provision`",
        ) from error
    except ChannelAccessRefused as error:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"user {link.user} may not read dead letters: use a user made by `moorage client enroll NAME "
            "--role operator` (or console)",
            user=link.user,
        ) from error
    except BaseException as error:
        if not is_loss(error):
            raise
        if link.problem is not None:
            raise link.problem from error
        raise ServiceError(
            Code.UNAVAILABLE,
            f"no dead letters from RabbitMQ at {link.shown} within {timeout_s:g} s "
            f"({explain_loss(error)}): is it running there?",
        ) from error
