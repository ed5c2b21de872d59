"""Where the servers' programs are, also for users whose PATH lacks the sbin folders."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compose.services.errors import ProgramsMissing

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")

RABBITMQ_FOLDERS = (Path("/usr/lib/rabbitmq/lib"), Path("/opt/rabbitmq"))
"""Below these lies `rabbitmq_server-<version>/sbin`, or `sbin` itself."""


@dataclass(frozen=True)
class Programs:
    """The programs that a set of services runs."""

    rabbitmq_server: Path
    epmd: Path
    erl: Path
    mariadbd: Path
    mariadb_install_db: Path


def search_path() -> str:
    """PATH, with the sbin folders that hold servers."""
    given = [folder for folder in os.environ.get("PATH", "/usr/bin:/bin").split(os.pathsep) if folder]
    return os.pathsep.join([*given, *(folder for folder in SBIN if folder not in given)])


def find_programs(rabbitmq_folders: Iterable[Path] = RABBITMQ_FOLDERS, path: str | None = None) -> Programs:
    """All of them. Raises `ProgramsMissing` that names every missing one and the packages to install."""
    path = search_path() if path is None else path
    found = {
        "rabbitmq-server": _rabbitmq_server(rabbitmq_folders),
        **{name: _which(name, path) for name in ("epmd", "erl", "mariadbd", "mariadb-install-db")},
    }
    packages = {"mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server"}
    missing = {name: packages.get(name, "rabbitmq-server") for name, where in found.items() if where is None}
    if missing:
        raise ProgramsMissing(missing)
    return Programs(**{name.replace("-", "_"): where for name, where in found.items() if where is not None})


def _which(name: str, path: str) -> Path | None:
    where = shutil.which(name, path=path)
    return Path(where) if where else None


def _rabbitmq_server(folders: Iterable[Path]) -> Path | None:
    """The server's own script of the newest version: the packages' wrapper insists on a user of its own."""
    scripts = [
        script
        for folder in folders
        for pattern in ("rabbitmq_server-*/sbin/rabbitmq-server", "sbin/rabbitmq-server")
        for script in folder.glob(pattern)
    ]
    return max(scripts, key=_version, default=None)


def _version(script: Path) -> tuple[int, ...]:
    number = script.parent.parent.name.partition("-")[2]
    return tuple(int(part) for part in number.split(".") if part.isdigit())
