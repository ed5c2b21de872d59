"""Several database servers behind one engine: which of them a new connection leads to.

They are tried in the order of the URL, by every process alike, so that all write to one server for as long as
it is there. It must take writes: a replica, and a member of a Galera cluster that lost its quorum, is passed
over.
"""

from collections.abc import Callable
from contextlib import closing
from time import monotonic
from typing import Any

import pymysql
import structlog
from pymysql.connections import Connection
from pymysql.constants import SERVER_STATUS
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from broker.login import Login
from schemas.errors import Code, ServiceError

Dial = Callable[[dict[str, Any]], "Connection[Any]"]
"""Connects to the place that these arguments of PyMySQL name."""

_CANNOT_CONNECT = 2003
_READ_ONLY = 1290
_ALL = 7  # reads, UPDATE and DELETE, INSERT and REPLACE

AGAIN_S = 60
"""After how long a server is tried first again, in seconds."""
_SILENT_S = 1.0
"""Who says nothing for so long, in seconds, is off or cut off. Each new connection would wait for it anew."""

log = structlog.get_logger("moorage.allocator")


class Servers:
    """The servers of one login, and which of them let us in last."""

    def __init__(self, access: Login) -> None:
        self._login = access
        self._last: str | None = None
        self._silent: dict[str, float] = {}

    def urls(self) -> list[URL]:
        """The URL of each server. Raises `not_provisioned`, without repeating a password."""
        try:
            urls = [make_url(server) for server in self._login.servers()]
            usable = all(url.drivername == "mysql+pymysql" and url.host for url in urls)
        except (ArgumentError, ValueError):
            usable = False
        if not usable:
            raise ServiceError(
                Code.NOT_PROVISIONED,
                f"the database URL{self._login.place} cannot be used: it must read "
                "mysql+pymysql://USER:PASSWORD@HOST:PORT/NAME "
                "(several HOST:PORT with commas between), special characters of the password percent-encoded",
            )
        return urls

    def connect(self, dial: Dial) -> "Connection[Any]":
        """A connection to the first server that takes writes. Raises what the last one raised."""
        urls = self.urls()
        trust = self._login.trust
        tls = {"ssl": trust.context(), "ssl_disabled": False} if trust.authorities else {}
        failures: list[tuple[str, Exception]] = []
        for url in sorted(urls, key=self._is_silent):
            shown, begun = _shown(url), monotonic()
            try:
                connection = dial({**_place(url), **tls})
            except (pymysql.Error, OSError) as error:
                failures.append((shown, error))
                if monotonic() - begun >= _SILENT_S:
                    self._silent[shown] = monotonic()
                continue
            try:
                _settle(connection, alone=len(urls) == 1)
            except (pymysql.Error, OSError) as error:
                connection.close()
                failures.append((shown, error))
                continue
            self._tell(shown, failures)
            return connection
        raise _all_of(failures)

    def _is_silent(self, url: URL) -> bool:
        """Whether nothing was heard of a server a moment ago: then others are tried before."""
        since = self._silent.get(_shown(url))
        return since is not None and monotonic() - since < AGAIN_S

    def _tell(self, shown: str, failures: list[tuple[str, Exception]]) -> None:
        """Log once that another server than before is used, and why."""
        if self._last not in (None, shown) or failures:
            passed = {server: _text(error) for server, error in failures}
            if self._last != shown:
                log.warning("another database server", server=shown, passed_over=passed)
        self._last = shown


def state_of(access: Login, *, timeout_s: int) -> tuple[str, bool]:
    """How the only server of a login stands, in words, and whether it does its part. Raises nothing."""
    try:
        (url,) = Servers(access).urls()
        trust = access.trust
        options = _place(url) | dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), timeout_s)
        if trust.authorities:
            options["ssl"] = trust.context()
        with closing(Connection(**options)) as connection:
            return _state(connection)
    except ServiceError as error:
        return error.message, False
    except (pymysql.Error, OSError) as error:
        return _text(error), False


def _state(connection: "Connection[Any]") -> tuple[str, bool]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'wsrep_%'")
        galera = dict(cursor.fetchall())
        if galera.get("wsrep_connected") == "ON" or galera.get("wsrep_cluster_status") == "non-Primary":
            state, size = galera["wsrep_local_state_comment"], galera["wsrep_cluster_size"]
            whole = galera["wsrep_cluster_status"] == "Primary" and galera["wsrep_ready"] == "ON"
            lost = "" if whole else ", has no quorum and takes no writes"
            return f"Galera: {state}, in a cluster of {size}{lost}", whole
        cursor.execute("SELECT @@global.read_only")
        row = cursor.fetchone()
    return ("read-only: a replica", True) if row and row[0] else ("takes writes", True)


def _all_of(failures: list[tuple[str, Exception]]) -> Exception:
    """The last error, which tells of all servers where there are several."""
    last = failures[-1][1]
    if len(failures) == 1 and isinstance(last, pymysql.Error):
        return last
    told = "; ".join(f"{server}: {_text(error)}" for server, error in failures)
    if isinstance(last, pymysql.Error) and len(last.args) > 1:
        return type(last)(last.args[0], told)
    return pymysql.OperationalError(_CANNOT_CONNECT, told)


def _text(error: Exception) -> str:
    return str(error.args[-1] if error.args else error)


def _shown(url: URL) -> str:
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    return f"{host}:{url.port or 3306}"


def _place(url: URL) -> dict[str, Any]:
    """PyMySQL's arguments for where a URL leads, and as whom."""
    return {
        "host": url.host,
        "port": url.port or 3306,
        "user": url.username or "",
        "password": url.password or "",
        "database": url.database,
    }


def _settle(connection: "Connection[Any]", *, alone: bool) -> None:
    """Have a server of a Galera cluster show what others committed, and pass over one that takes no writes.

    Such a cluster applies what another server committed a moment later; whoever reads before that, after the
    other died, would not see what was answered already (mariadb.com, Galera system variables,
    wsrep_sync_wait). The only server of a URL is used as it is: a proxy knows better, or its error says more.
    """
    with connection.cursor() as cursor:
        if not alone:
            cursor.execute("SELECT @@global.read_only")
            row = cursor.fetchone()
            if row and row[0]:
                raise pymysql.OperationalError(_READ_ONLY, "the server is read-only")
        cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
        found = cursor.fetchone()
        if found and found[1] == "ON":
            cursor.execute(f"SET SESSION wsrep_sync_wait = {_ALL}")
    status: int = connection.server_status  # type: ignore[attr-defined]  # its stubs lack it
    if status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
        connection.commit()
