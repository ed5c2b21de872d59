"""Structured logs on stderr: one JSON object, or one readable line, for each event."""

import logging
import sys
from typing import Literal

import structlog


def configure_logging(level: str, style: Literal["json", "text"]) -> None:
    """Set up structlog and the standard library's logging for this process. Called by entry points alone."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            # Not the default, which shows what the variables of each frame hold: passwords are among them.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        # First of all: most lines of a quiet level are not worth a look at the clock.
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries tell of every reconnect; ours says it once, with what to do.
    for name in ("aio_pika", "aiormq", "alembic", "asyncio", "pyroute2", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL if name in ("aio_pika", "aiormq") else logging.WARNING
        )
