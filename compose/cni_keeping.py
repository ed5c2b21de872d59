"""`moorage cni install --keep` as a process: it looks again and again until it is told to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from cni.keeping import Keeper
from compose.settings import Settings
from schemas.health import Check, Health

_EVERY_S = 2.0


def keep_looking(keeper: Keeper, settings: Settings) -> None:
    """Look every two seconds until SIGTERM or SIGINT; what is in place stays.

    Answers /healthz and /readyz meanwhile where the settings say: it is ready while pods can be attached.
    Raises `unavailable` where it cannot listen there.
    """
    # What serves HTTP is of no use to other commands.
    from compose.listener import listening  # noqa: PLC0415
    from compose.monitoring import LoopWatch, application, new_registry  # noqa: PLC0415

    registry = new_registry("installer")
    watch = LoopWatch(registry)

    def ready() -> Health:
        hindrance = keeper.hindrance or ""
        return Health.of(Check(name="installed", ok=not hindrance, message=hindrance))

    address = settings.monitoring
    app = application(registry, watch.health, ready)
    with _stopping() as stopped, listening(address, app) if address else nullcontext():
        while not stopped.is_set():
            watch.tick()
            keeper.look()
            stopped.wait(_EVERY_S)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """What is set by the first SIGTERM or SIGINT."""
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
