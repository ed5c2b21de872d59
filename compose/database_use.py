"""A database as a command uses it: for a moment, and with people who are told why it cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from broker.outcome import Unavailable
from schemas.errors import Code, ServiceError


@contextmanager
def usable(engine: Engine) -> Iterator[Engine]:
    """`engine`, disposed of afterwards. What fails inside raises `unavailable`, in the server's words."""
    try:
        yield engine
    except (DBAPIError, Unavailable) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise ServiceError(
            Code.UNAVAILABLE,
            f"the database cannot be used: {reason}. Look at MOORAGE_DATABASE_URL and at the server, then "
            "run this again",
        ) from error
    finally:
        engine.dispose()
