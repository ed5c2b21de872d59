"""An event loop waits for the database while that is quick, and tries again after it was not."""

from contextlib import suppress

from broker.haste import Haste


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempt(haste: Haste, clock: Clock, took_s: float) -> None:
    with haste.timed():
        clock.now += took_s


def test_it_is_advisable_until_attempts_are_slow():
    clock = Clock()
    haste = Haste(clock)
    for _ in range(100):
        assert haste.advisable
        attempt(haste, clock, 0.003)
    for _ in range(20):
        attempt(haste, clock, 0.008)
    assert not haste.advisable


def test_one_slow_attempt_among_many_counts_for_little():
    clock = Clock()
    haste = Haste(clock)
    attempt(haste, clock, 0.002)
    attempt(haste, clock, 0.02)
    assert haste.advisable


def test_an_attempt_that_hung_is_the_last_for_some_time():
    clock = Clock()
    haste = Haste(clock)
    attempt(haste, clock, 5)
    assert not haste.advisable
    clock.now += 9
    assert not haste.advisable
    clock.now += 2
    assert haste.advisable
    attempt(haste, clock, 5)
    assert not haste.advisable


def test_an_attempt_that_fails_counts_too():
    clock = Clock()
    haste = Haste(clock)
    with suppress(ZeroDivisionError), haste.timed():
        clock.now += 5
        _ = 1 / 0
    assert not haste.advisable
