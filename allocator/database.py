"""The way to the database: connections, whole transactions that are retried, and what an error means."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from broker.outcome import Unavailable

T = TypeVar("T")

# MySQL server and client error numbers; MariaDB shares them.
_DUPLICATE = 1062
_CONFLICT = {
    1020,  # snapshot conflict (MariaDB >= 11.6.2)
    _DUPLICATE,  # another writer was faster: run again, this time its row is there to be read
    1205,  # lock wait timeout
    1213,  # deadlock
}
_LOST = {0, 1927, 2006, 2013, 2055, 4031}  # the connection went away; 0 is PyMySQL's "already closed"
_AWAY = {
    1040,  # too many connections
    1047,  # Galera: node not ready
    1053,  # server shutdown in progress
    1205,
    1290,  # read-only: the server has become a replica
    1836,
    2002,  # cannot connect through the socket
    2003,  # cannot connect
    2005,  # unknown host
    3101,  # Group Replication rolled back
} | _LOST


def open_engine(url: str | URL, *, statement_s: int = 10) -> Engine:
    """An engine for `url` (mysql+pymysql://). It connects at first use, in UTC and READ COMMITTED.

    PyMySQL waits for ever unless told otherwise; here a statement may take `statement_s` seconds.
    """
    return create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=8,
        pool_timeout=10,
        connect_args={
            "connect_timeout": 5,
            "read_timeout": statement_s,
            "write_timeout": statement_s,
            "init_command": "SET time_zone = '+00:00', innodb_lock_wait_timeout = 5",
        },
    )


def _number(error: BaseException) -> int | None:
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    args = error.orig.args
    return args[0] if args and isinstance(args[0], int) else None


class Conflict(Exception):
    """A row is not as this transaction read it: somebody else was faster."""


def is_retriable(error: BaseException) -> bool:
    """Whether the same transaction, run again from its beginning, may succeed at once."""
    if isinstance(error, Conflict):
        return True
    number = _number(error)
    return number is not None and number in (_CONFLICT | _LOST)


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be written to now, whatever the statement."""
    number = _number(error)
    return isinstance(error, PoolTimeout) or (number is not None and number in _AWAY)


class Database:
    """Runs units of work, each in one transaction that is retried whole, its COMMIT included."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, committed. `work` may run several times: it must keep nothing of a lost run.

        A connection lost in COMMIT leaves the outcome open; `work` runs again and its unique keys decide.
        Raises `Unavailable` while the database is away or lets nobody in; any other error as it is.
        """
        attempts = Retrying(
            retry=retry_if_exception(is_retriable),
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            reraise=True,
        )
        try:
            for attempt in attempts:
                with attempt:
                    return self._once(work)
        except (DBAPIError, PoolTimeout) as error:
            if is_away(error) or (is_retriable(error) and _number(error) != _DUPLICATE):
                raise Unavailable(f"the database is away: {_reason(error)}") from error
            raise
        raise AssertionError("tenacity re-raises the last error")

    def _once(self, work: Callable[[Connection], T]) -> T:
        with self._connect() as connection, connection.begin():
            return work(connection)

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except DBAPIError as error:
            # Whatever it is (a password that changed, a database not restored yet), no request is to blame.
            raise Unavailable(f"the database lets nobody in: {_reason(error)}") from error

    def dispose(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()


def _reason(error: BaseException) -> str:
    orig = getattr(error, "orig", None)
    return str(orig.args[-1] if orig is not None and orig.args else error)
