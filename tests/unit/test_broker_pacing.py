"""How many requests a client has under way: more while answers come soon, fewer while they do not."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.pacing import Pacing


class Answers:
    """Requests under way, which are answered when told to, after as long as told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pacing = Pacing(lambda: self.now)
        self.under_way: list[asyncio.Future[None]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, count: int) -> None:
        """So many more ask."""
        self.tasks += [asyncio.create_task(self.pacing.ask(self._begun)) for _ in range(count)]
        await self.settled()

    async def answer(self, count: int, *, after_s: float = 0.0) -> None:
        """Answer the oldest."""
        for _ in range(count):
            self.now += after_s
            self.under_way.pop(0).set_result(None)
            await self.settled()

    async def settled(self) -> None:
        """Let everybody go on."""
        for _ in range(8):
            await asyncio.sleep(0)

    def _begun(self) -> Awaitable[None]:
        future = asyncio.get_running_loop().create_future()
        self.under_way.append(future)
        return future


@pytest.fixture
async def answers() -> Answers:
    return Answers()


async def test_the_first_are_sixteen_and_quick_answers_make_them_sixty_four(answers: Answers) -> None:
    await answers.ask(300)
    assert len(answers.under_way) == 16
    await answers.answer(10)
    assert len(answers.under_way) == answers.pacing.size == 26
    await answers.answer(100)
    assert len(answers.under_way) == answers.pacing.size == 64


async def test_slow_answers_make_them_eight_and_never_none(answers: Answers) -> None:
    await answers.ask(300)
    await answers.answer(4, after_s=0.2)
    assert len(answers.under_way) == answers.pacing.size == 12
    await answers.answer(50, after_s=0.2)
    assert len(answers.under_way) == answers.pacing.size == 8


@pytest.mark.parametrize("end", [lambda one: one.cancel(), lambda one: one.set_exception(LookupError())])
async def test_what_fails_or_is_cancelled_leaves_its_place_to_the_next(
    answers: Answers, end: Callable[[asyncio.Future[None]], object]
) -> None:
    await answers.ask(40)
    for _ in range(20):
        end(answers.under_way.pop(0))
        await answers.settled()
        assert len(answers.under_way) == answers.pacing.size == 16
    assert len([task for task in answers.tasks if task.done()]) == 20
    assert all(task.cancelled() or task.exception() for task in answers.tasks if task.done())


async def test_who_is_cancelled_before_his_turn_takes_nobodys_place(answers: Answers) -> None:
    await answers.ask(20)
    for task in answers.tasks[16:18]:
        task.cancel()
    await answers.settled()
    await answers.answer(2, after_s=0.05)
    assert len(answers.under_way) == 16
