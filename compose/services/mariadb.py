"""A private MariaDB: durable, on a loopback port, a socket and data of its own."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pymysql

from compose.services.identity import Identity, write_private
from compose.services.mariadb_data import (
    ADMIN,
    DATABASE,
    USER,
    accounts,
    environment,
    make_data,
    options,
    socket_path,
)
from compose.services.ports import reserve
from compose.services.process import Child
from compose.services.programs import Programs
from compose.services.starting import outlast_thefts
from schemas.errors import Code, ServiceError

NAME = "MariaDB"

_READY_S = 60
_GRACE_S = 30
_TRIES = 3
_DATABASE_EXISTS = 1007
_AT_REST = 50  # changed pages: some of its own it changes all the time
_WRITE_OUT = 2000  # pages a second
_LOOK_S = 0.2


class MariaDB:
    """One server in `folder`. After `kill` or `stop` it starts again on the same port and data."""

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        identity: Identity,
        *,
        progress: Callable[[str], None],
        keep: Sequence[int] = (),
        extra_options: Sequence[str] = (),
    ) -> None:
        """`keep` are descriptors that the process inherits; `extra_options` win over those of our own."""
        self._folder, self._programs, self._identity = folder, programs, identity
        self._progress, self._keep = progress, tuple(keep)
        self._extra_options = tuple(extra_options)
        self._port: int | None = None
        self._socket: Path | None = None
        self._server: Child | None = None
        self._launched = 0.0
        self._tries = _TRIES

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1. Raises `RuntimeError` before the first start."""
        if self._port is None:
            raise RuntimeError("MariaDB was not started yet")
        return self._port

    @property
    def pids(self) -> list[int]:
        """The process that runs."""
        return [self._server.pid] if self._server and self._server.pid is not None else []

    def url(self, database: str = DATABASE) -> str:
        """`database` as the user moorage, for SQLAlchemy with PyMySQL."""
        secret = self._identity.database_password
        return f"mysql+pymysql://{USER}:{secret}@127.0.0.1:{self.port}/{database}?charset=utf8mb4"

    def create_database(self, name: str) -> str:
        """Make a further, empty database; its URL. Raises `invalid_request` for a bad or used name."""
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"database name {name!r} cannot be used: it takes up to 64 of a-z, 0-9 and _, a letter first",
            )
        with self._admin() as connection, connection.cursor() as cursor:
            try:
                cursor.execute(f"CREATE DATABASE `{name}`")
            except pymysql.err.ProgrammingError as error:
                if error.args[0] != _DATABASE_EXISTS:
                    raise
                raise ServiceError(
                    Code.INVALID_REQUEST, f"database {name} exists already: choose another name"
                ) from error
            cursor.execute(f"GRANT ALL PRIVILEGES ON `{name}`.* TO '{USER}'@'127.0.0.1'")
        return self.url(name)

    def settle(self, limit_s: float) -> None:
        """Have it write out what it holds back, so that no measurement pays for what came before.

        Raises TimeoutError when that takes longer than `limit_s` seconds.
        """
        until = time.monotonic() + limit_s
        with self._admin() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@innodb_max_dirty_pages_pct, @@innodb_io_capacity")
            ((share, speed),), dirty = cursor.fetchall(), _AT_REST
            cursor.execute(f"SET GLOBAL innodb_max_dirty_pages_pct = 0, innodb_io_capacity = {_WRITE_OUT}")
            try:
                while dirty >= _AT_REST:
                    if time.monotonic() > until:
                        raise TimeoutError(f"{NAME} still holds {dirty} changed pages after {limit_s:g} s")
                    time.sleep(_LOOK_S)
                    cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")
                    dirty = int(cursor.fetchall()[0][1])
            finally:
                usual = f"innodb_max_dirty_pages_pct = {share}, innodb_io_capacity = {speed}"
                cursor.execute(f"SET GLOBAL {usual}")

    def start(self, *this_time: str) -> None:
        """Start it and wait until it serves; with options for this time alone. Raises `NotStarted`."""
        self.launch(*this_time)
        self.wait_until_ready()

    def launch(self, *this_time: str) -> None:
        """Start it without waiting: `wait_until_ready` must follow. Raises `NotStarted`."""
        self._ensure_data()
        self._launched = time.monotonic()
        reservation = None if self._port else reserve(1, f"{self._identity.node} database")
        port = self._port = reservation.ports[0] if reservation else self.port
        write_private(self._folder / "init.sql", accounts(self._identity))
        socket = self._socket = self._socket or socket_path(self._folder)
        if reservation:
            reservation.release()
        own = options(self._folder, socket, port)
        argv = [str(self._programs.mariadbd), *own, *self._extra_options, *this_time]
        log = self._folder / "mariadb.log"
        self._server = Child(NAME, argv, env=environment(self._folder), log=log, keep=self._keep)
        self._server.start()

    def wait_until_ready(self) -> None:
        """Wait until it serves; it is stopped if it does not. Raises `NotStarted`.

        The port is replaced at the first start only: later it is part of our URLs.
        """
        outlast_thefts(self._wait, self.stop, self._relaunch_elsewhere, self._tries)
        self._tries = 1
        seconds = time.monotonic() - self._launched
        self._progress(f"{NAME}: ready on 127.0.0.1:{self.port} after {seconds:.1f} s")

    def terminate(self) -> None:
        """Ask it to stop; returns at once."""
        if self._server:
            self._server.terminate()

    def stop(self) -> None:
        """Stop it; does nothing if it does not run."""
        try:
            if self._server:
                self._server.stop(_GRACE_S)
        finally:
            if self._socket and self._socket.parent != self._folder:
                shutil.rmtree(self._socket.parent, ignore_errors=True)
            self._socket = None

    def kill(self) -> None:
        """SIGKILL it, as a crash would."""
        if self._server:
            self._server.kill()

    def run(self, *this_time: str) -> list[str]:
        """Run it until it ends by itself, and the last lines of what it logged. Raises `NotStarted`."""
        self.launch(*this_time)
        if self._server is None:
            raise RuntimeError("MariaDB was not launched")
        self._server.wait_until_done(_READY_S)
        return self._server.tail()

    def _wait(self) -> None:
        if self._server is None:
            raise RuntimeError("MariaDB was not launched")
        self._server.wait_until_ready(self._probe, limit_s=_READY_S)

    def _relaunch_elsewhere(self) -> None:
        self._progress(f"{NAME}: its port was taken meanwhile, trying another")
        self._port = None
        self.launch()

    def _probe(self) -> str | None:
        """Log in as its user: nobody else's server on a stolen port knows the password."""
        try:
            pymysql.connect(
                host="127.0.0.1",
                port=self.port,
                user=USER,
                password=self._identity.database_password,
                database=DATABASE,
                connect_timeout=2,
                read_timeout=2,
                write_timeout=2,
            ).close()
        except (pymysql.err.Error, OSError) as error:
            return str(error)
        return None

    def _admin(self) -> "contextlib.closing[pymysql.Connection[pymysql.cursors.Cursor]]":
        return contextlib.closing(
            pymysql.connect(
                unix_socket=str(self._socket),
                user=ADMIN,
                password=self._identity.database_admin_password,
                connect_timeout=5,
                read_timeout=30,
                write_timeout=30,
                autocommit=True,
            )
        )

    def _ensure_data(self) -> None:
        if not (self._folder / "data").exists():
            started = time.monotonic()
            make_data(self._programs.mariadb_install_db, self._folder, keep=self._keep)
            self._progress(f"{NAME}: data folder made in {time.monotonic() - started:.1f} s")
