"""The database comes back from a backup that knows nothing of the latest pods."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose.services.programs import search_path
from tests.acceptance.machines import until
from tests.chaos.stage import NODES, Stage, code_of

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

READY_S = 60


def test_a_database_restored_from_an_older_backup(stage: Stage):
    """No address is given twice: what nodes have is adopted, what has ended is released, before any ADD."""
    for node in NODES:  # one that began with an empty journal releases nothing that it does not know
        stage.restart(node)
    kept, ended = stage.pod("bank/kept-0"), stage.pod("bank/ended-0")
    moved = stage.pod("shop/web-0")
    for pod in (kept, ended, moved):
        pod.add()
    backup = dumped(stage)
    ended.delete()
    moved.delete()
    again = stage.pod("shop/web-0", "node-2")
    again.add()
    late = [stage.pod(f"bank/late-{number}", node) for number, node in enumerate(("node-1", "node-2"))]
    for pod in late:
        pod.add()
    until(lambda: len(stage.attached()) == 4)
    before = {pod.owner: pod.links() for pod in (kept, again, *late)}

    stage.allocator.kill()
    restored(stage, backup)
    said = database_command(stage, "restored")
    assert "paused" in said
    stage.allocator.start()
    new = stage.pod("bank/new-0")
    until(lambda: stage.node_states() == {"node-1": "ready", "node-2": "ready"}, READY_S)
    assert code_of(new.call("ADD")) == 11, "paused"
    until(lambda: len(stage.attached()) == 4, READY_S)
    database_command(stage, "resume")
    until(lambda: new.call("ADD")[0] == 0)
    assert {pod.owner: pod.links() for pod in (kept, again, *late)} == before


def dumped(stage: Stage) -> bytes:
    """A backup, as an administrator makes it."""
    return admin(stage, "mariadb-dump", "--single-transaction")


def restored(stage: Stage, backup: bytes) -> None:
    """The database as it was when the backup was made."""
    admin(stage, "mariadb", stdin=backup)


def admin(stage: Stage, program: str, *options: str, stdin: bytes = b"") -> bytes:
    """What a client program says that works on the stage's database."""
    url = stage.engine.url
    words = [program, *options, "-h", str(url.host), "-P", str(url.port), "-u", str(url.username)]
    done = subprocess.run(
        [*words, str(url.database)],
        env={"PATH": search_path(), "MYSQL_PWD": str(url.password)},
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def database_command(stage: Stage, word: str) -> str:
    """What `moorage db` says."""
    done = subprocess.run(
        [sys.executable, "-m", "compose.cli", "db", word],
        env={**os.environ, "MOORAGE_DATABASE_URL": stage.database_url},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
