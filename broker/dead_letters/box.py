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
from functools import partial

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from broker.connection import OPEN_S, Link, close_quietly, explain_loss, is_loss, obey
from broker.dead_letters.letter import Letter, read_letter
from broker.frames import Arrived, ack
from broker.intake import watch
from broker.topology import DEAD
from broker.wire import Wire
from schemas.errors import Code, ServiceError

_HEARTBEAT_S = 2
"""A looker that is cut off has given its letters back within two of these, in seconds."""
_HANDFUL = 2000
"""How many letters one channel holds: the most that lie about in this process, too."""
_QUIET_S = 0.3
_STUCK_S = 5.0
_OTHERS_S = 5.0
_LOOK_S = 0.05


@dataclass(slots=True)
class _Hand:
    """One channel, and how many letters it has been given and not settled."""

    channel: AbstractChannel
    wire: Wire
    number: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A letter that is out, and where it is held."""

    letter: Letter
    hand: _Hand = field(repr=False)
    tag: int


class Box:
    """What lay in `moorage.dead` when it was opened: `count` letters, the oldest death first."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._counting: AbstractChannel | None = None
        self._hands: list[_Hand] = []
        self._waiting: deque[tuple[_Hand, Arrived]] = deque()
        self._bell = asyncio.Event()
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
        self.count, others = await self._settled(lambda _, others: others == 0)
        self.shared = others > 0
        await self._open_hand()  # also where there is nothing: whoever may not read shall be told so

    async def close(self) -> None:
        """Give back every letter that was not settled. Acknowledgements before it are carried out first."""
        hands, self._hands = self._hands, []
        held = sum(hand.held for hand in hands) if self._lost is None else 0
        await asyncio.gather(*(close_quietly(hand.channel) for hand in hands))
        if held and self._link.is_open:
            # RabbitMQ gives them back a moment after it has closed the channel: whoever looks next sees them.
            await self._settled(lambda ready, _: ready >= held)

    async def _settled(self, wanted: Callable[[int, int], bool]) -> tuple[int, int]:
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
            if self._hands[-1].held >= _HANDFUL:
                await self._open_hand()
            elif not await self._wait():
                break
        most = min(limit, len(self._waiting), self.count - self.seen)
        taken = [self._waiting.popleft() for _ in range(most)]
        self.seen += most
        return [Held(read_letter(message), hand, message.delivery_tag) for hand, message in taken]

    def settle(self, done: Sequence[Held]) -> None:
        """Take these letters out for good. Raises `unavailable`: they come back then, or they do not."""
        self._check()
        for hand in {id(held.hand): held.hand for held in done}.values():
            tags = [held.tag for held in done if held.hand is hand]
            hand.held -= len(tags)
            try:
                hand.wire.write(b"".join(ack(hand.number, tag, multiple=False) for tag in tags))
            except ConnectionError as error:
                raise self._away(error) from error

    async def _open_hand(self) -> None:
        channel, wire = await self._link.wired_channel(confirms=False)
        hand = _Hand(channel, wire, (await channel.get_underlay_channel()).number)
        self._hands.append(hand)
        wire.divert(hand.number, partial(self._arrived, hand))
        await watch(channel, self._lose)
        async with asyncio.timeout(OPEN_S):
            await channel.set_qos(prefetch_count=_HANDFUL)
            source = await channel.get_queue(DEAD, ensure=False)
            await source.consume(_never)
            obey()

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

    def _arrived(self, hand: _Hand, message: Arrived) -> None:
        hand.held += 1
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


async def _never(_: object) -> None:
    raise AssertionError("deliveries are taken off the wire")


@asynccontextmanager
async def letter_box(url: str, *, timeout_s: float = 10.0) -> AsyncIterator[Box]:
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
