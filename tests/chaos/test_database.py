"""The database fails an ADD in every way: it is waited for, and no address is given twice."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from allocator import schema
from allocator.database import open_engine
from compose.services.mariadb_data import make_data
from compose.services.programs import find_programs
from tests.acceptance.machines import until
from tests.chaos.commits import CommitOf
from tests.chaos.stage import NODES, Stage, address_of, code_of
from tests.integration.replicated import Pair, pair
from tests.integration.sql_proxy import DEADLOCK, LOST_AFTER, LOST_BEFORE, LOST_DURING, Fault

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

OWNER = "bank/api-0"
NOTICED_S = 60
"""Two heartbeats, 10 s apart, have to go unanswered for 8 s each."""


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_DURING, LOST_AFTER], ids=str)
def test_a_connection_cut_inside_commit(stage: Stage, fault: Fault):
    commit = stage.sql.judge = CommitOf(OWNER, fault)
    pod = stage.pod(OWNER)
    address = address_of(pod.add())
    assert commit.met.is_set()
    stage.was_given_once(pod, address)


def test_a_database_that_is_killed_and_restarted(stage: Stage):
    """What is asked meanwhile waits, or is told to try again, and STATUS says so."""
    held, database = stage.pod("shop/web-0"), stage.services.mariadb
    held.add()
    database.kill()
    try:
        pod = stage.pod(OWNER)
        coming = stage.adding(pod)
        held.delete()
        assert code_of(coming.result(60)) == 11
        until(lambda: code_of(stage.status("node-1")) == 50, NOTICED_S)
        assert code_of(pod.call("ADD")) == 11
    finally:
        database.start()
    until(lambda: code_of(stage.status("node-1")) == 0, NOTICED_S)
    until(lambda: pod.call("ADD")[0] == 0)
    until(lambda: stage.events("shop/web-0") == ["address.attached", "address.waiting"])
    assert stage.events(OWNER).count("address.attached") - stage.events(OWNER).count("address.freed") == 1


def test_a_database_that_falls_silent(stage: Stage):
    """Nothing passes, and nobody is told; what was under way reaches the server when all had given it up."""
    for number in range(5):  # from then on new pods are served at once
        stage.pod(f"bank/early-{number}").add()
    stage.sql.hold()
    pods = [stage.pod(f"bank/late-{number}", node) for number, node in enumerate(NODES)]
    coming = [stage.adding(pod) for pod in pods]
    assert [code_of(each.result(60)) for each in coming] == [11, 11]
    until(lambda: code_of(stage.status("node-1")) == 50, NOTICED_S)
    stage.sql.heal()
    until(lambda: code_of(stage.status("node-1")) == 0, NOTICED_S)
    for pod in pods:
        until(lambda pod=pod: pod.call("ADD")[0] == 0)


def test_a_database_that_takes_no_writes(stage: Stage):
    """As one that was switched over, or whose disk is full."""
    with stage.services.mariadb._admin() as admin, admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = ON")
        try:
            pod = stage.pod(OWNER)
            coming = stage.adding(pod)
            until(lambda: code_of(stage.status("node-1")) == 50, NOTICED_S)
            assert code_of(coming.result(60)) == 11
        finally:
            cursor.execute("SET GLOBAL read_only = OFF")
    until(lambda: code_of(stage.status("node-1")) == 0, NOTICED_S)
    until(lambda: pod.call("ADD")[0] == 0)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Pair]:
    make_data(find_programs().mariadb_install_db, tmp_path)
    with pair(tmp_path, tmp_path / "data") as made:
        yield made


def test_a_database_that_fails_over_to_its_replica_inside_a_commit(servers: Pair, unbegun: Stage):
    """The primary dies with a COMMIT on its way to it; the replica has all that anybody was told."""
    stage = unbegun
    engine = open_engine(servers.primary.url())
    schema.upgrade(engine)
    engine.dispose()
    servers.connect()
    stage.use(servers.primary)
    stage.begin()
    before = stage.pod("bank/api-1")
    told = address_of(before.add())
    commit = stage.sql.judge = CommitOf(OWNER, None, servers.primary.kill)
    pod = stage.pod(OWNER)
    coming = stage.adding(pod)
    assert commit.met.wait(20)
    servers.promote()
    stage.use(servers.replica)
    answered = coming.result(60)
    if answered[0] != 0:  # on a slow machine it took too long
        assert code_of(answered) == 11
        until(lambda: pod.call("ADD")[0] == 0)
    assert told in before.links()
    assert told not in pod.links()
    assert stage.events("bank/api-1") == ["address.attached"]


def test_a_deadlock_storm(stage: Stage):
    """Every transaction loses; each is tried again a few times, with pauses, and not for ever at once."""
    tries: list[float] = []

    def storm(query: str) -> Fault | None:
        if query != "COMMIT":
            return None
        tries.append(time.monotonic())
        return DEADLOCK

    pod = stage.pod(OWNER)
    stage.sql.judge = storm
    coming = stage.adding(pod)
    until(lambda: tries and time.monotonic() - tries[0] > 5)
    met = len(tries)
    stage.sql.judge = None
    assert 1 < met < 1000  # each of some queues and timers tries 5 times, and then waits for at least 0.1 s
    status, answer = coming.result(60)
    assert status == 0, answer
    stage.was_given_once(pod, address_of(answer))
