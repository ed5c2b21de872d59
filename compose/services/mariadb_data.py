"""What one MariaDB is made of: its data folder, its accounts, its socket and its options."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compose.services.identity import Identity
from compose.services.process import Child
from compose.services.programs import search_path

USER = DATABASE = "moorage"
ADMIN = "moorage_admin"

_SUN_PATH_MAX = 107  # bytes, without the closing NUL (unix(7))
_MAKE_S = 120

# Durable as in production; small, because several sets run on one machine.
_FIGURES = (
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-flush-method=O_DIRECT",
    "--innodb-buffer-pool-size=64M",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--skip-name-resolve",
)


def make_data(program: Path, folder: Path, *, keep: Sequence[int] = ()) -> None:
    """Make the folder `data` with MariaDB's own tables, or nothing. Raises `NotStarted`.

    One that an earlier run did not finish is made anew.
    """
    fresh = folder / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    options = [
        "--no-defaults",
        f"--datadir={fresh}",
        # root and nobody else, over the socket and from the same system user alone.
        "--auth-root-authentication-method=socket",
        "--auth-root-socket-user=root",
        "--skip-test-db",
        "--force",  # do not insist on a host name that DNS knows
        # The script's own --user also changes the owner of a system-wide folder; -u reaches the server alone.
        *(["-uroot"] if os.geteuid() == 0 else []),
    ]
    log = folder / "install.log"
    child = Child("mariadb-install-db", [program, *options], env=environment(folder), log=log, keep=keep)
    child.start()
    try:
        child.wait_until_done(_MAKE_S)
    finally:
        child.kill()
    fresh.rename(folder / "data")


def accounts(identity: Identity) -> str:
    """SQL for `--init-file`: run at every start, before anybody may connect."""
    user, admin = f"'{USER}'@'127.0.0.1'", f"'{ADMIN}'@'localhost'"
    return (
        f"CREATE DATABASE IF NOT EXISTS `{DATABASE}`;\n"
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{identity.database_password}';\n"
        f"GRANT ALL PRIVILEGES ON `{DATABASE}`.* TO {user};\n"
        f"CREATE USER IF NOT EXISTS {admin} IDENTIFIED BY '{identity.database_admin_password}';\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {admin} WITH GRANT OPTION;\n"
    )


def options(folder: Path, socket: Path, port: int) -> list[str]:
    """Everything the server is told; no option file of the system is read."""
    return [
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--socket={socket}",
        f"--pid-file={folder / 'mariadb.pid'}",
        f"--init-file={folder / 'init.sql'}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        *_FIGURES,
        *(["--user=root"] if os.geteuid() == 0 else []),
    ]


def environment(folder: Path) -> dict[str, str]:
    """The whole environment of the server.

    Temporary tables are its own: one that starts removes all that it finds, those of others included.
    """
    return {"PATH": search_path(), "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}


def socket_path(folder: Path) -> Path:
    """In `folder` if the path fits into a socket's address, else in a short private folder made for it."""
    path = folder / "mariadb.sock"
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        return path
    return Path(tempfile.mkdtemp(prefix="moorage-")) / path.name
