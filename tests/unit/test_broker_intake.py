"""How deliveries become batches: at once for a few, a moment later for a crowd."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from broker.frames import Arrived
from broker.intake import ChannelLost, Intake
from broker.wire import Wire


@pytest.fixture
def tags() -> Iterator[int]:
    """Delivery tags in order."""
    return iter(range(1, 10_000))


@pytest.fixture
async def taken() -> AsyncIterator[Intake]:
    """An intake with nothing in it."""
    async with asyncio.timeout(10):
        yield Intake(Wire(), 1)


def arrive(taken: Intake, tags: Iterator[int], count: int) -> None:
    for _ in range(count):
        taken.arrived(Arrived(delivery_tag=next(tags)))


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_has_arrived_is_taken_in_order_and_never_more_than_the_limit(
    taken: Intake, tags: Iterator[int]
) -> None:
    arrive(taken, tags, 5)
    assert [message.delivery_tag for message in await taken.take(3)] == [1, 2, 3]
    assert [message.delivery_tag for message in await taken.take(3)] == [4, 5]


async def test_one_who_asks_alone_or_with_a_few_others_is_not_kept_waiting(
    taken: Intake, tags: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.intake._GATHER_S", 1000)
    for count in (1, 15, 1, 6, 2):
        arrive(taken, tags, count)
        assert len(await taken.take(64)) == count


async def test_in_a_crowd_most_of_those_who_were_just_answered_are_waited_for(
    taken: Intake, tags: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.intake._GATHER_S", 1000)
    arrive(taken, tags, 30)
    await taken.take(64)
    arrive(taken, tags, 10)
    taking = asyncio.create_task(taken.take(64))
    await settle()
    arrive(taken, tags, 19)
    await settle()
    assert not taking.done()
    arrive(taken, tags, 1)  # three quarters of the 40 who are about
    assert len(await taking) == 30


async def test_a_crowd_that_went_away_is_waited_for_once_and_only_for_a_moment(
    taken: Intake, tags: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.intake._GATHER_S", 0.01)
    arrive(taken, tags, 60)
    await taken.take(64)
    arrive(taken, tags, 1)
    assert len(await taken.take(64)) == 1
    monkeypatch.setattr("broker.intake._GATHER_S", 1000)
    arrive(taken, tags, 1)
    assert len(await taken.take(64)) == 1


async def test_a_full_batch_is_taken_at_once(
    taken: Intake, tags: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.intake._GATHER_S", 1000)
    arrive(taken, tags, 300)
    assert [len(await taken.take(64)) for _ in range(4)] == [64] * 4


async def test_who_waits_for_a_crowd_hears_at_once_that_the_channel_is_lost(
    taken: Intake, tags: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.intake._GATHER_S", 1000)
    arrive(taken, tags, 60)
    await taken.take(64)
    taking = asyncio.create_task(taken.take(64))
    await settle()
    taken.lose(ConnectionResetError("gone"))
    with pytest.raises(ChannelLost, match="gone"):
        await taking
    with pytest.raises(ChannelLost):
        taken.ack(Arrived(delivery_tag=1))


async def test_with_a_pace_the_first_is_taken_at_once_and_the_next_wait_for_one_another(
    tags: Iterator[int],
) -> None:
    taken, clock = Intake(Wire(), 1, apart_s=0.2), asyncio.get_running_loop().time
    arrive(taken, tags, 1)
    async with asyncio.timeout(0.1):
        assert len(await taken.take(64)) == 1
    first_at = clock()
    arrive(taken, tags, 1)
    taking = asyncio.create_task(taken.take(64))
    await settle()
    arrive(taken, tags, 2)
    assert len(await taking) == 3
    assert clock() - first_at > 0.15


async def test_a_full_batch_waits_for_no_pace(tags: Iterator[int]) -> None:
    taken = Intake(Wire(), 1, apart_s=1000)
    arrive(taken, tags, 1)
    await taken.take(8)
    taking = asyncio.create_task(taken.take(8))
    arrive(taken, tags, 7)
    await settle()
    assert not taking.done()
    arrive(taken, tags, 2)
    async with asyncio.timeout(10):
        assert len(await taking) == 8


async def test_a_channel_that_is_lost_ends_the_wait_for_a_pace(tags: Iterator[int]) -> None:
    taken = Intake(Wire(), 1, apart_s=1000)
    arrive(taken, tags, 1)
    await taken.take(8)
    taking = asyncio.create_task(taken.take(8))
    await settle()
    taken.lose(ConnectionError("gone"))
    async with asyncio.timeout(10):
        with pytest.raises(ChannelLost):
            await taking
