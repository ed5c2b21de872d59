"""The node worker's memory on disk: one SQLite file, its schema, one transaction at a time.

A commit outlives the process as soon as `run` returns, and the machine some seconds later (WAL,
synchronous=NORMAL; why that is enough: docs/decisions/0011). What is kept: `attachments.py` and
`networks.py`. The file is locked for as long as it is open, so that no second worker undoes this one's work.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Concatenate, ParamSpec, Self, TypeVar

from broker.threads import Threads
from schemas.errors import Code, ServiceError

P = ParamSpec("P")
T = TypeVar("T")

SCHEMA_VERSION = 3
_MISSING = "CREATE TABLE missing (attachment_id TEXT NOT NULL PRIMARY KEY) STRICT;"
_SCHEMA = (
    """
CREATE TABLE attachments (
    attachment_id TEXT NOT NULL PRIMARY KEY,
    network TEXT NOT NULL,
    conf_name TEXT NOT NULL,
    container_id TEXT NOT NULL,
    ifname TEXT NOT NULL,
    owner TEXT NOT NULL,
    netns TEXT NOT NULL,
    netns_device INTEGER NOT NULL,
    netns_inode INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    driver TEXT NOT NULL,
    bridge TEXT NOT NULL,
    host_link TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('allocating', 'wiring', 'attached', 'removing')),
    addresses TEXT NOT NULL,
    mac TEXT,
    netns_cookie INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT one_attachment_per_interface UNIQUE (container_id, ifname, conf_name)
) STRICT;
CREATE INDEX attachments_of_network ON attachments (network);
CREATE TABLE releases (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    network TEXT NOT NULL,
    container_id TEXT NOT NULL,
    ifname TEXT NOT NULL,
    attachment_id TEXT
) STRICT;
CREATE UNIQUE INDEX one_release_per_attachment ON releases (attachment_id) WHERE attachment_id IS NOT NULL;
CREATE UNIQUE INDEX one_nameless_release ON releases (container_id, ifname, network)
    WHERE attachment_id IS NULL;
CREATE TABLE networks (
    network TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    desired TEXT NOT NULL CHECK (desired IN ('present', 'absent')),
    definition TEXT,
    made TEXT,
    outcome TEXT NOT NULL CHECK (outcome IN ('pending', 'ready', 'removed', 'error')),
    error TEXT,
    reported INTEGER NOT NULL CHECK (reported IN (0, 1))
) STRICT;
"""
    + _MISSING
)


_MIGRATIONS = {
    1: "ALTER TABLE attachments ADD COLUMN netns_cookie INTEGER NOT NULL DEFAULT 0;",
    2: _MISSING,
}
"""What makes the schema of each earlier version that of the next."""


class Journal:
    """The open file. `run` and, in a thread that is off the event loop already, `now` are the ways to it."""

    def __init__(self, path: Path) -> None:
        """Open or create the file at `path`, and its folder. Raises ServiceError when that cannot be done."""
        self._path = path
        self._connection = _opened(path)
        self.is_new = _is_blank(self._connection)
        """Whether it told of no earlier life when it was opened: there may be pods that it does not know."""
        self._problem: ServiceError | None = None
        self._thread = Threads("journal", 1)
        self._turn = Lock()

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Apply `function` in one transaction of its own, after all those before it.

        Raises what it raises, and ServiceError `io_failure`, retryable, when the file cannot be written.
        """
        return await self._thread.run(lambda: self.now(function, *args, **kwargs))

    def now(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `run`, for a thread that may wait: for the transaction before it, and for the disk."""
        with self._turn:
            return self._transact(lambda: function(self._connection, *args, **kwargs))

    def check(self) -> None:
        """Raise ServiceError `io_failure` if the file could not be written the last time. Asks no disk."""
        if self._problem is not None:
            raise self._problem

    async def prove(self) -> None:
        """Write although there is nothing to say, for `check` to know. Raises ServiceError `io_failure`."""
        await self.run(_written_again)
        self._problem = None

    def _transact(self, work: Callable[[], T]) -> T:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                outcome = work()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            self._problem = ServiceError(
                Code.IO_FAILURE,
                f"the journal {self._path} cannot be written ({error}): make room on its disk and see that "
                "it is not read-only",
                retryable=True,
            )
            raise self._problem from error
        return outcome

    def close(self) -> None:
        """Let the running transaction end, and close the file."""
        self._thread.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _opened(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, f"cannot be opened ({error})", "see that its folder is writable") from error
    try:
        _prepare(connection, path)
    except sqlite3.OperationalError as error:
        connection.close()
        hint = "stop the other node worker that uses it, or give this one a path of its own; see also that "
        raise _unusable(path, f"cannot be used ({error})", hint + "its disk has room") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _damaged(path, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if health != "ok":
        raise _damaged(path, health)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version in _MIGRATIONS:
        for step in range(version, SCHEMA_VERSION):
            connection.executescript(f"BEGIN; {_MIGRATIONS[step]} PRAGMA user_version = {step + 1}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise _unusable(
            path,
            f"has schema {version}, and this node worker knows schema {SCHEMA_VERSION}",
            "start the node worker that wrote it",
        )
    else:  # take the lock now, not at the first ADD
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")


def _written_again(connection: sqlite3.Connection) -> None:
    """SQLite writes the version's page also where nothing of it changes."""
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever written down. sqlite_sequence remembers releases that are settled."""
    (written,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM networks) OR EXISTS (SELECT 1 FROM attachments) "
        "OR EXISTS (SELECT 1 FROM sqlite_sequence)"
    ).fetchone()
    return not written


def _damaged(path: Path, what: str) -> ServiceError:
    return _unusable(
        path,
        f"is damaged ({what})",
        f"move it away (mv {path} {path}.damaged) and start again; pods go on, and their addresses are "
        "released by container when they are deleted",
    )


def _unusable(path: Path, what: str, advice: str) -> ServiceError:
    return ServiceError(Code.INTERNAL, f"the journal {path} {what}: {advice}", path=str(path))
