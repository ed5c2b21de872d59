"""The way to the database: connections, whole transactions that are retried, and what an error means."""

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import structlog
from pymysql.connections import Connection as DriverConnection
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    wait_random_exponential,
)

from allocator.servers import AGAIN_S, Servers
from broker.login import Where, login
from broker.outcome import Unavailable
from schemas.errors import ServiceError

T = TypeVar("T")

# MySQL server and client error numbers; MariaDB shares them.
_DUPLICATE = 1062
_CONFLICT = {
    1020,  # snapshot conflict (MariaDB >= 11.6.2)
    _DUPLICATE,  # another writer was faster: run again, this time its row is there to be read
    1205,  # lock wait timeout; undoes the statement alone, so the transaction is rolled back by us
    1213,  # deadlock; Galera says it at COMMIT too
    1317,  # the query was interrupted: KILL QUERY, or MySQL shutting down
    1412,  # the table's definition changed: an upgrade runs
    3101,  # Group Replication: another server's transaction was faster
}
_USELESS = {
    0,  # PyMySQL's "already closed"
    1047,  # Galera: node not ready
    1053,  # server shutdown in progress
    1290,  # read-only: the server has become a replica
    1836,  # read-only mode
    1927,  # connection was killed
    2006,  # server has gone away
    2013,  # lost during query
    2055,  # lost, with the system's error
    3100,  # Group Replication: this server left its group
    4031,  # closed by the server for idleness
    9001,  # ProxySQL: no server to send this to
}
"""The connection is of no use any more; a new one may lead to a server that is."""
_AWAY = {
    1021,  # disk full
    1026,  # error writing file: of the binary log, for want of space
    1040,  # too many connections
    1114,  # the table is full: InnoDB has no space
    1180,  # error during COMMIT, the same
    2002,  # cannot connect through the socket
    2003,  # cannot connect
    2005,  # unknown host
}

UNMET = 1690
"""A number is out of range: how `store.writes` has the server stop where a row is not as it should be."""

_TRIES = 5
_GIVE_UP_S = 20.0
"""No further try from then on: somebody waits for the answer, and his request is served again anyway."""

COMMIT = "COMMIT"
"""As the last of several statements that are sent together it spares the way of a COMMIT alone."""

log = structlog.get_logger("moorage.allocator")


def open_engine(
    where: Where | URL, *, connect_s: int = 5, statement_s: int = 10, idle_s: int = 30, reads: bool = False
) -> Engine:
    """An engine for `where` (mysql+pymysql://). It connects at first use, in UTC and READ COMMITTED, to the
    first of its servers that takes writes. Raises `not_provisioned` for a URL that cannot be used.

    PyMySQL waits for ever unless told otherwise; here connecting may take `connect_s` seconds and a statement
    `statement_s`. A server would wait as well: 8 hours, unless told otherwise, with all locks of a client
    that vanished without a word. Here it ends a session that asks nothing for `idle_s` seconds.

    A unit of work costs its statements and one COMMIT: no ping before, for a lost connection is found by
    the first statement and `Database.run` tries again; and no ROLLBACK after. With `reads` every statement
    stands for itself, and there is nothing to end either: such an engine is for `Database.read` alone.
    """
    access = login(where.render_as_string(hide_password=False) if isinstance(where, URL) else where)
    servers = Servers(access)
    engine = create_engine(
        servers.urls()[0],
        isolation_level="AUTOCOMMIT" if reads else "READ COMMITTED",
        pool_size=8,
        max_overflow=8,
        pool_timeout=10,
        # Connections that were made while the first was away leave the others then: two servers that are
        # written to at once only get into each other's way.
        pool_recycle=AGAIN_S if len(servers.urls()) > 1 else -1,
        pool_reset_on_return=None,
        pool_use_lifo=True,
        skip_autocommit_rollback=reads,
        connect_args={
            # Rows count that match, also where nothing changes: SQLAlchemy's own flag, which this replaces.
            # `store.writes` sends several statements at once; PyMySQL escapes every value in them.
            "client_flag": CLIENT.FOUND_ROWS | (0 if reads else CLIENT.MULTI_STATEMENTS),
            "cursorclass": _Whole,
            "connect_timeout": connect_s,
            "read_timeout": statement_s,
            "write_timeout": statement_s,
            "init_command": (
                f"SET time_zone = '+00:00', innodb_lock_wait_timeout = 5, wait_timeout = {idle_s}"
            ),
        },
    )
    event.listen(engine, "do_connect", partial(_connect, servers))
    event.listen(engine, "handle_error", _discard)
    return engine


class _Session(DriverConnection):
    """Knows when its transaction is over already because a COMMIT went with other statements."""

    over = False

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        """Whatever is asked begins a transaction."""
        self.over = False
        affected: int = super().query(sql, unbuffered)
        return affected

    def commit(self) -> None:
        """Commit, unless there is nothing to commit."""
        if not self.over:
            super().commit()


class _Whole(Cursor):
    """Sees what became of each of several statements that were sent together."""

    _rows: Sequence[Sequence[Any]] | None

    def execute(self, query: Any, args: Any = None) -> int:
        """Raises what any of them raises. `sets` has the rows of each."""
        affected: int = super().execute(query, args)
        self.sets = [self._rows or ()]
        while self.nextset():
            affected = self.rowcount
            self.sets.append(self._rows or ())
        if isinstance(self.connection, _Session):
            self.connection.over = isinstance(query, str) and query.rpartition("; ")[2] == COMMIT
        return affected


def _connect(
    servers: Servers, _: object, __: object, ___: list[Any], options: dict[str, Any]
) -> DriverConnection:
    return servers.connect(lambda place: _Session(**{**options, **place}))


def _discard(context: ExceptionContext) -> None:
    """Close what SQLAlchemy would use again: connections to a server that takes no writes any more, all of
    them, and one whose COMMIT failed, for SQLAlchemy then takes the transaction for closed.
    """
    if error_number(context.sqlalchemy_exception) in _USELESS:
        context.is_disconnect = True
    elif context.statement is None and not context.is_disconnect:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


def error_number(error: BaseException | None) -> int | None:
    """The server's or the driver's number of a database error; None where it has none."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    args = error.orig.args
    return args[0] if args and isinstance(args[0], int) else None


class Conflict(Exception):
    """A row is not as this transaction read it: somebody else was faster."""


def is_retriable(error: BaseException) -> bool:
    """Whether the same transaction, run again from its beginning, may succeed at once."""
    return isinstance(error, Conflict) or error_number(error) in _CONFLICT | _USELESS


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be written to now, whatever the statement."""
    no_use = (_CONFLICT | _USELESS | _AWAY) - {_DUPLICATE}
    return isinstance(error, PoolTimeout) or error_number(error) in no_use


class Database:
    """Runs units of work, each in one transaction that is retried whole, its COMMIT included."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._works = False

    @property
    def is_ready(self) -> bool:
        """Whether `attempt` finds a connection that is open and, when last used, was good."""
        pool = self._engine.pool
        return self._works and isinstance(pool, QueuePool) and pool.checkedin() > 0

    def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, committed. `work` may run several times: it must keep nothing of a lost run.

        A connection lost in COMMIT leaves the outcome open; `work` runs again and its unique keys decide.
        Raises `Unavailable` while the database is away or lets nobody in; any other error as it is.
        """
        return self._tried(lambda: self.attempt(work))

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, which only reads, on an engine for reads. Raises as `run` does."""

        def once() -> T:
            with self._connect() as connection:
                return work(connection)

        return self._tried(once)

    def _tried(self, once: Callable[[], T]) -> T:
        begun = monotonic()
        try:
            return once()  # nearly always that is all
        except Exception as error:
            return self._again(once, error, begun)

    def _again(self, once: Callable[[], T], first: Exception, begun: float) -> T:
        """What comes of it after a first attempt, which began then and ended in `first`."""
        ended = [first]

        def attempt_once() -> T:
            if ended:
                raise ended.pop()
            return once()

        failures: list[str] = []
        attempts = Retrying(
            retry=retry_if_exception(is_retriable),
            stop=lambda state: state.attempt_number >= _TRIES or monotonic() - begun >= _GIVE_UP_S,
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            before_sleep=lambda state: failures.append(_failure(state)),
            reraise=True,
        )
        try:
            for attempt in attempts:
                with attempt:
                    return attempt_once()
        except Conflict as error:
            raise Unavailable(f"others change the same rows all the time: {error}") from error
        except (DBAPIError, PoolTimeout) as error:
            if is_away(error):
                raise Unavailable(f"the database is away: {_reason(error)}") from error
            raise
        finally:
            if failures:
                log.warning("transaction tried again", times=len(failures), reasons=failures)
        raise AssertionError("tenacity re-raises the last error")

    def attempt(self, work: Callable[[Connection], T]) -> T:
        """As `run`, but once: whatever fails is raised as it is."""
        try:
            with self._connect() as connection, connection.begin():
                found = work(connection)
        except DBAPIError as error:
            if error.connection_invalidated:
                self._works = False
            raise
        self._works = True
        return found

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except DBAPIError as error:
            # Whatever it is (a password that changed, a database not restored yet), no request is to blame.
            self._works = False
            raise Unavailable(f"the database lets nobody in: {_reason(error)}") from error
        except ServiceError as error:  # the file with the URL, or a certificate, is being replaced
            self._works = False
            raise Unavailable(error.message) from error

    def dispose(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()


def _failure(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return _reason(error) if error else ""


def _reason(error: BaseException) -> str:
    orig = getattr(error, "orig", None)
    return str(orig.args[-1] if orig is not None and orig.args else error)
