"""What a process tells over HTTP: /metrics to Prometheus, /healthz and /readyz to whoever runs it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import (
    CollectorRegistry,
    Info,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compose.listener import listening
from schemas.health import Check, Health

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

STUCK_S = 20.0
"""An event loop that has not come round for so many seconds is stuck. A database that falls silent can hold
it up for half of that (`open_engine`), and no restart would mend it.
"""
_TICK_S = 1.0
_JSON = [("Content-Type", "application/json")]

Ready = Callable[[], Health]

log = structlog.get_logger("moorage")


def new_registry(process: str) -> CollectorRegistry:
    """A registry with what every process has; `process` is `allocator` or `node`."""
    # A third of all samples, and the start of the process tells as much.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    about = Info("moorage_process", "What runs here.", registry=registry)
    about.info({"process": process, "version": version("moorage")})
    return registry


class LoopWatch(Collector):
    """Notes when the event loop last came round; asked in another thread, which runs if it does not."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic) -> None:
        """Registers itself."""
        self._now = now
        self._ticked = now()
        registry.register(self)

    @property
    def late_s(self) -> float:
        """How long the loop has been overdue, in seconds."""
        return max(0.0, self._now() - self._ticked - _TICK_S)

    def tick(self) -> None:
        """It came round."""
        self._ticked = self._now()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(_TICK_S)

    def health(self) -> Health:
        """Whether the process can go on by itself."""
        late = self.late_s
        stuck = (
            f"the event loop has been stuck for {late:.0f} s: restart the process" if late > STUCK_S else ""
        )
        return Health.of(Check(name="event loop", ok=not stuck, message=stuck))

    def collect(self) -> Iterable[Metric]:
        """How late it is."""
        yield GaugeMetricFamily(
            "moorage_loop_late_seconds", "How long the event loop has been overdue.", value=self.late_s
        )


def application(registry: CollectorRegistry, alive: Ready, ready: Ready) -> "WSGIApplication":
    """What answers the requests: 200 where all is well, 503 where it is not; GET alone."""
    metrics = make_wsgi_app(registry)
    answers = {"/healthz": alive, "/readyz": ready}

    def app(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path != "/metrics" and path not in answers:
            return _said(start_response, HTTPStatus.NOT_FOUND, b'{"error": "/metrics, /healthz or /readyz"}')
        if environ.get("REQUEST_METHOD") != "GET":
            answer = b'{"error": "GET alone"}'
            return _said(start_response, HTTPStatus.METHOD_NOT_ALLOWED, answer, ("Allow", "GET"))
        try:
            if path == "/metrics":
                told: Iterable[bytes] = metrics(environ, start_response)
                return told
            health = answers[path]()
        except Exception:
            log.exception("monitoring failed", path=path)
            failed = b'{"error": "it failed, and the log of the process says where"}'
            return _said(start_response, HTTPStatus.INTERNAL_SERVER_ERROR, failed)
        status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
        return _said(start_response, status, health.model_dump_json().encode())

    return app


def _said(
    start_response: "StartResponse", status: HTTPStatus, body: bytes, *headers: tuple[str, str]
) -> Iterable[bytes]:
    length = ("Content-Length", str(len(body) + 1))
    start_response(f"{status.value} {status.phrase}", [*_JSON, length, *headers])
    return [body + b"\n"]


@asynccontextmanager
async def monitored(address: str | None, registry: CollectorRegistry, ready: Ready) -> AsyncIterator[None]:
    """Answer at `address` (HOST:PORT) while the block runs, if there is one.

    Raises ServiceError `unavailable` where it cannot listen there.
    """
    if address is None:
        yield
        return
    watch = LoopWatch(registry)
    with listening(address, application(registry, watch.health, ready)) as where:
        log.info("monitoring listens", address=where)
        ticking = asyncio.create_task(watch.run(), name="loop watch")
        try:
            yield
        finally:
            ticking.cancel()
