"""What a moment suffices for is served on the event loop, but only while no other queue has anything."""

import threading
from collections.abc import Sequence

import pytest

from broker.connection import Backoff
from broker.outcome import DEFERRED, Delivery, Outcome
from broker.serving import Calm, Serving
from schemas.network import NetworkList

ONE = [Delivery(NetworkList(), "console.x", "reply", "c", "m")]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Served:
    """Notes in which thread it was called; `takes` says whether `at_once` is enough."""

    def __init__(self) -> None:
        self.takes = True
        self.here: list[bool] = []

    def service(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        self.here.append(threading.current_thread() is threading.main_thread())
        return [DEFERRED] * len(deliveries)

    def at_once(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome] | None:
        return self.service(deliveries) if self.takes else None


@pytest.fixture
def served() -> Served:
    return Served()


async def test_a_moment_needs_no_thread(served: Served):
    serving = Serving(served.service, "one", at_once=served.at_once)
    assert await serving.together(ONE, held=None) == [DEFERRED]
    served.takes = False
    assert await serving.together(ONE, held=None) == [DEFERRED]
    assert served.here == [True, False]
    serving.close()


async def test_beside_another_queue_each_has_its_thread(served: Served):
    clock = Clock()
    calm = Calm(clock)
    one, two = (Serving(served.service, name, at_once=served.at_once, calm=calm) for name in ("one", "two"))
    for serving in (one, two, two, one):
        await serving.together(ONE, held=None)
    assert served.here == [True, False, False, False]
    clock.now += 0.1
    await two.together(ONE, held=None)
    assert served.here[-1]
    one.close()
    two.close()


async def test_what_is_held_is_not_tried_at_once(served: Served):
    """Its service was away: the event loop would wait for it."""
    serving = Serving(served.service, "one", at_once=served.at_once)
    await serving.together(ONE, held=Backoff())
    assert served.here == [False]
    serving.close()


async def test_whether_a_service_is_able_is_seen_in_the_thread(served: Served):
    serving = Serving(served.service, "one", at_once=served.at_once)
    assert await serving.is_able()
    assert served.here == [False]
    serving.close()
