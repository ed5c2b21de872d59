"""What must be true at the end of each row: kernel = journal = database, and no address twice."""

import asyncio
import json
import sqlite3
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import Connection, select

from allocator import tables as t
from allocator.database import Database
from broker import topology
from node_worker.netlink import simulated
from tests.acceptance.machines import Pod
from tests.chaos.stage import NODES, Stage
from tests.integration.brokering import ready
from tests.integration.checking import check as check_database

LIMIT_S = 60.0
"""How long what is owed may take to arrive."""
_GRACE_S = 15

Held = dict[tuple[str, str], frozenset[str]]
"""The addresses of each container's attachment, by node and container."""


def in_kernel(stage: Stage) -> Held:
    """What the pods' namespaces have on their interfaces, the loopback apart."""
    living = [pod for pod in stage.pods if _lives(pod)]
    found = {(pod.node.name, pod.container_id): _addresses(pod) for pod in living}
    return {key: addresses for key, addresses in found.items() if addresses}


def in_database(stage: Stage) -> Held:
    """What the database says is attached."""
    a = t.allocations.c
    rows = select(a.node, a.container_id, a.address).where(a.state == "attached")

    def read(connection: Connection) -> Held:
        found: Held = {}
        for row in connection.execute(rows):
            key = (row.node, row.container_id)
            found[key] = found.get(key, frozenset()) | {str(row.address)}
        return found

    return Database(stage.engine).run(read)


def in_journals(stage: Stage) -> Held:
    """What the nodes' journals have; their workers must have stopped."""
    found: Held = {}
    for node in NODES:
        for container, state, addresses in _read(stage.folder_of(node), "container_id, state, addresses"):
            assert state == "attached", f"{container} on {node} was left {state}"
            found[node, container] = frozenset(text.split("/")[0] for text in json.loads(addresses))
    return found


def check(stage: Stage) -> None:
    """Wait until all that is owed has arrived, stop the workers, and compare."""
    deadline = time.monotonic() + LIMIT_S
    while (kernel := in_kernel(stage)) != (database := in_database(stage)):
        assert time.monotonic() < deadline, f"kernel and database differ: {kernel} and {database}"
        time.sleep(0.1)
    twice = Counter(address for addresses in kernel.values() for address in addresses)
    assert max(twice.values(), default=1) == 1, twice
    while (owed := _owed(stage)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for node in stage.stack.nodes:
        node.process.stop(_GRACE_S)
    assert not (owed := _owed(stage)), f"these releases were never answered: {owed}"
    assert (journals := in_journals(stage)) == kernel, f"journals and kernel differ: {journals} and {kernel}"
    assert in_database(stage) == kernel
    check_database(stage.engine)
    assert asyncio.run(ready(stage.broker, topology.DEAD)) == 0, "there are dead letters"


def _owed(stage: Stage) -> list[tuple[str, ...]]:
    return [row for node in NODES for row in _read(stage.folder_of(node), "container_id", "releases")]


def _read(folder: Path, columns: str, table: str = "attachments") -> list[tuple[str, ...]]:
    """Rows of a copy: a worker that runs keeps its journal locked."""
    copy = folder.parent / f"copy of {folder.name}"
    copy.mkdir(exist_ok=True)
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        (copy / name).unlink(missing_ok=True)
        if (folder / name).exists():
            (copy / name).write_bytes((folder / name).read_bytes())
    connection = sqlite3.connect(copy / "journal.sqlite")
    try:
        return connection.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608
    finally:
        connection.close()


def _lives(pod: Pod) -> bool:
    return simulated.netns_path(pod.netns).exists()


def _addresses(pod: Pod) -> frozenset[str]:
    shown = pod.run("ip", "-json", "address", "show", "scope", "global")
    assert shown.returncode == 0, shown.stderr
    links = [link for link in json.loads(shown.stdout or "[]") if link]
    return frozenset(item["local"] for link in links for item in link["addr_info"])
