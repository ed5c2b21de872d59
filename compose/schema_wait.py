"""Before the allocator consumes: a database that is away, or older than this code, is waited for."""

import asyncio
import random

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from allocator import schema
from allocator.database import is_away
from schemas.errors import Code, ServiceError

_AGAIN_S = 2.0

log = structlog.get_logger("moorage")


async def schema_ready(engine: Engine, *, again_s: float = _AGAIN_S) -> None:
    """Return once the database can be served from; look every `again_s` seconds until then.

    Says why it waits, once for each reason. A schema that is newer than this code is served, and said once,
    too. Raises `not_provisioned` where the database lets nobody in.
    """
    told = ""
    while (reason := await asyncio.to_thread(_hindrance, engine)) is not None:
        if reason != told:
            log.warning("waiting for the database", reason=reason)
            told = reason
        await asyncio.sleep(again_s * random.uniform(0.5, 1.0))  # noqa: S311  spreads load, guards nothing


def _hindrance(engine: Engine) -> str | None:
    try:
        newer = schema.check(engine)
    except ServiceError as error:
        return error.message
    except DBAPIError as error:
        if not is_away(error):
            raise ServiceError(
                Code.NOT_PROVISIONED,
                f"the database lets nobody in: {error.orig}. Look at MOORAGE_DATABASE_URL, or the file that "
                "holds it, and at the user's rights there",
            ) from error
        return str(error.orig)
    if newer is not None:
        log.warning(
            "the database's schema is newer than this code, which serves all the same",
            found=newer,
            known=schema.head(),
            advice="update this allocator: the upgrade is done when all of them are",
        )
    return None
