"""Under which conditions figures were taken: the disk, the servers and how durable they were, the machine."""

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from allocator.database import open_engine
from bench.machine import Machine
from bench.pods import percentile
from broker.management import Management
from compose.services.folder import filesystem

_FSYNCS = 200
_BLOCK = b"\0" * 4096
_DURABILITY = (
    "innodb_flush_log_at_trx_commit",
    "innodb_flush_method",
    "innodb_doublewrite",
    "innodb_buffer_pool_size",
    "log_bin",
    "sync_binlog",
)


def conditions(machine: Machine) -> dict[str, Any]:
    """All of it, for the results file."""
    version, settings = _mariadb(machine)
    state_dir = machine.services.state_dir
    with Management(machine.services.management_url) as api:
        rabbitmq = api.get("overview")["rabbitmq_version"]
    return {
        "size": machine.size.value,
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "rabbitmq": rabbitmq,
        "mariadb": version,
        "mariadb_settings": settings,
        "state_filesystem": filesystem(state_dir),
        "fsync_us": fsync_us(state_dir),
    }


def fsync_us(folder: Path) -> dict[str, float]:
    """How long an fdatasync of 4 KiB appended to a file in `folder` takes, in microseconds."""
    file = folder / "fsync"
    taken = []
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        for _ in range(_FSYNCS):
            os.write(descriptor, _BLOCK)
            started = time.perf_counter()
            os.fdatasync(descriptor)
            taken.append((time.perf_counter() - started) * 1e6)
    finally:
        os.close(descriptor)
        file.unlink()
    return {"p50": round(statistics.median(taken)), "p99": round(percentile(taken, 99))}


def _mariadb(machine: Machine) -> tuple[str, dict[str, str]]:
    engine = open_engine(machine.services.database_url)
    try:
        with engine.connect() as connection:
            version = connection.execute(text("SELECT VERSION()")).scalar_one()
            rows = connection.execute(text("SHOW GLOBAL VARIABLES")).all()
    finally:
        engine.dispose()
    found = {name: value for name, value in rows}
    return str(version), {name: found[name] for name in _DURABILITY if name in found}
