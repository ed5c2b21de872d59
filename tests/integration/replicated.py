"""A primary MariaDB and its semi-synchronous replica: what is committed on one is on the other."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql

from compose.services.identity import ensure_identity
from compose.services.mariadb import MariaDB
from compose.services.programs import find_programs

LIMIT_S = 20.0

_OPTIONS = (
    "--log-bin=changes",
    "--log-slave-updates",
    "--sync-binlog=1",
    "--rpl-semi-sync-slave-enabled=ON",
    "--rpl-semi-sync-master-wait-point=AFTER_SYNC",  # nobody sees what the replica does not have yet
    "--rpl-semi-sync-master-timeout=3600000",  # milliseconds: never go on without the replica
)


def ask(server: MariaDB, *statements: str) -> list[dict[str, Any]]:
    """What the last of these statements answers to the administrator."""
    with server._admin() as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


class Pair:
    """Two servers. `primary` has what it writes taken by `replica` before it says that it is done."""

    def __init__(self, primary: MariaDB, replica: MariaDB) -> None:
        self.primary, self.replica = primary, replica

    def connect(self) -> None:
        """Begin to replicate, and from then on commit only with the replica."""
        user = "'replica'@'127.0.0.1'"
        ask(
            self.primary,
            f"CREATE USER {user} IDENTIFIED BY 'secret'",
            f"GRANT REPLICATION SLAVE ON *.* TO {user}",
        )
        ask(
            self.replica,
            "RESET MASTER",  # it wrote down how it made its own accounts
            "SET GLOBAL gtid_slave_pos = ''",
            "SET GLOBAL read_only = ON",
            f"CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {self.primary.port}, "
            "MASTER_USER = 'replica', MASTER_PASSWORD = 'secret', MASTER_USE_GTID = slave_pos",
            "START SLAVE",
        )
        ask(self.primary, "SET GLOBAL rpl_semi_sync_master_enabled = ON")
        until(lambda: self.replicas() == 1, "the replica takes what the primary commits")

    def replicas(self) -> int:
        """How many replicas the primary waits for."""
        return int(ask(self.primary, "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'")[0]["Value"])

    def promote(self) -> None:
        """Make the replica a primary, after it has done all that it took from the old one."""
        ask(self.replica, "STOP SLAVE IO_THREAD")
        taken = ask(self.replica, "SHOW SLAVE STATUS")[0]["Gtid_IO_Pos"]
        (done,) = ask(self.replica, f"SELECT MASTER_GTID_WAIT('{taken}', {LIMIT_S}) AS code")
        assert done["code"] == 0, f"the replica did not get to {taken}"
        ask(self.replica, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, for `LIMIT_S` at most."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.02)


@contextmanager
def pair(folder: Path, data: Path) -> Iterator[Pair]:
    """Both servers, started and not yet connected; `data` is copied, as it takes longer to make."""
    identity = ensure_identity(folder, data_exists=False)
    servers = []
    for number, name in enumerate(("primary", "replica"), start=1):
        home = folder / name
        home.mkdir(mode=0o700)
        subprocess.run(["cp", "-a", "--sparse=always", data, home], check=True)  # most of it is zeros
        options = (*_OPTIONS, f"--server-id={number}")
        servers.append(
            MariaDB(home, find_programs(), identity, progress=lambda _: None, extra_options=options)
        )
    try:
        for server in servers:
            server.start()
        yield Pair(*servers)
    finally:
        for server in servers:
            server.kill()  # nobody needs their data any more, and an orderly stop would wait for a replica
            server.stop()
