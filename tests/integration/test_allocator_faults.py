"""The database fails at every point: it is waited for or tried again, and never answered wrongly."""

from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pymysql
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from allocator.database import Database, open_engine
from allocator.timers import LOST_AFTER_S, Timers
from allocator.work import Work
from broker.outcome import Delivery, Reply, Unavailable
from compose.services.local import LocalServices
from schemas.node import NodeList, NodeSync
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with network prod."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    return made


@pytest.fixture
def apart(engine: Engine, services: LocalServices) -> Iterator[Engine]:
    """An engine of its own, to be broken."""
    own = open_engine(services.database_url)
    yield own
    own.dispose()


def kill_connection(engine: Engine, victim: Connection) -> None:
    number = victim.connection.driver_connection.thread_id()  # type: ignore[union-attr]
    with engine.connect() as connection:
        connection.execute(text(f"KILL {number}"))


def first_time_only(act: Callable[[Connection], None]) -> Callable[[Connection], None]:
    done: list[bool] = []

    def once(connection: Connection) -> None:
        if not done:
            done.append(True)
            act(connection)

    return once


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_killed_in_a_transaction_costs_one_more_try(
    asked: Asked, apart: Engine, engine: Engine, when: str
):
    runs: list[int] = []
    kill = first_time_only(lambda connection: kill_connection(engine, connection))

    def work(connection: Connection) -> None:
        runs.append(len(runs))
        if when == "before":  # the next statement meets a dead connection
            kill(connection)
        connection.execute(text("UPDATE networks SET seq = seq + 1 WHERE name = 'prod'"))
        if when == "after":  # and here the COMMIT does
            kill(connection)

    before = seq_of(engine)
    Database(apart).run(work)
    assert runs == [0, 1]
    assert seq_of(engine) == before + 1


def seq_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT seq FROM networks WHERE name = 'prod'")).scalar_one())


def test_a_commit_that_was_done_but_not_heard_of_gives_one_address(
    asked: Asked, apart: Engine, monkeypatch: pytest.MonkeyPatch
):
    commit, lost = apart.dialect.do_commit, []

    def unheard(connection: Any) -> None:
        commit(connection)
        if not lost:
            lost.append(True)
            raise pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")

    other = Asked(apart, nodes=())
    monkeypatch.setattr(apart.dialect, "do_commit", unheard)
    given = other.attach("bank/api-0")
    assert lost
    (row,) = asked.addresses()
    assert (str(row.address), row.attachment_id) == (only(given), given.attachment_id)
    assert [r.event for r in asked.history(address=row.address)] == ["address.attached"]


def test_a_deadlock_is_tried_again_by_the_one_that_lost_it(asked: Asked, engine: Engine, apart: Engine):
    asked.network("other", "10.2.0.0/24")
    first_held = {name: Event() for name in ("prod", "other")}
    runs: list[str] = []

    def both(first: str, second: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            runs.append(first)
            Work(connection).lock([first])
            first_held[first].set()
            assert first_held[second].wait(10)
            Work(connection).lock([second])

        return work

    thread = Thread(target=lambda: Database(apart).run(both("other", "prod")))
    thread.start()
    Database(engine).run(both("prod", "other"))
    thread.join(20)
    assert not thread.is_alive()
    assert len(runs) == 3


def test_a_duplicate_that_stays_is_no_outage(engine: Engine):
    runs: list[int] = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.execute(text("INSERT INTO epochs (id, epoch) VALUES (1, 1)"))

    with pytest.raises(IntegrityError):
        Database(engine).run(work)
    assert len(runs) > 1


def test_a_database_that_is_killed_under_load_answers_every_request_once(
    asked: Asked, services: LocalServices
):
    batches = [[asked.ask(f"bank/api-{i}-{j}") for j in range(4)] for i in range(20)]
    given: dict[str, str] = {}
    some, gone, back = Event(), Event(), Event()

    def consume() -> None:
        for number, batch in enumerate(batches):
            deliveries = [Delivery(request, "node.n1", None, None, None) for request in batch]
            while True:
                try:
                    outcomes = asked.allocator.apply(deliveries)
                    break
                except Unavailable:
                    gone.set()
                    assert back.wait(60)
            for outcome in outcomes:
                assert isinstance(outcome, Reply)
                given[only(outcome.message)] = outcome.message.attachment_id  # type: ignore[attr-defined,arg-type]
            if number == 5:
                some.set()

    thread = Thread(target=consume)
    thread.start()
    try:
        assert some.wait(30)
        services.mariadb.kill()
        assert gone.wait(60)
    finally:
        services.mariadb.start()
        back.set()
    thread.join(60)
    rows = {str(row.address): row.attachment_id for row in asked.addresses(state="attached")}
    assert rows == given
    assert len(rows) == 80


def test_a_database_that_takes_no_writes_is_away_and_shows_so_before_it_is_asked(
    asked: Asked, services: LocalServices
):
    with services.mariadb._admin() as admin, admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = ON")
        try:
            with pytest.raises(Unavailable, match="read-only"):
                asked.attach("bank/api-0")
            with pytest.raises(Unavailable):
                asked.allocator.apply([])
            assert asked.allocator.answer([]) == []
        finally:
            cursor.execute("SET GLOBAL read_only = OFF")
    assert asked.allocator.apply([]) == []
    asked.attach("bank/api-0")


def test_a_database_that_lets_nobody_in_is_away_and_no_request_is_to_blame(engine: Engine):
    wrong = open_engine(engine.url.set(password="wrong"))
    with pytest.raises(Unavailable, match="lets nobody in"):
        Database(wrong).run(lambda connection: None)
    wrong.dispose()


def test_a_row_that_somebody_else_keeps_locked_is_an_outage_and_no_failure(
    asked: Asked, engine: Engine, apart: Engine
):
    def impatient(connection: Connection) -> None:
        connection.execute(text("SET innodb_lock_wait_timeout = 0"))
        Work(connection).lock(["prod"])

    with engine.begin() as holder:
        Work(holder).lock(["prod"])
        with pytest.raises(Unavailable, match="Lock wait timeout"):
            Database(apart).run(impatient)


def test_a_node_is_not_lost_because_the_database_was_away(engine: Engine, services: LocalServices):
    asked, now = Asked(engine), [1000.0]
    timers = Timers(asked.database, asked.committed, clock=lambda: now[0])
    now[0] += LOST_AFTER_S + 1
    services.mariadb.stop()
    try:
        with pytest.raises(Unavailable):
            timers.tick()
    finally:
        services.mariadb.start()
    with engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET last_seen = last_seen - INTERVAL 1 HOUR"))
    timers.tick()
    assert {node.state for node in asked.reply(NodeList()).nodes} == {"ready"}
    asked.reply(NodeSync(node="n1", session=uuid4()))
    now[0] += LOST_AFTER_S + 1
    timers.tick()
    assert {node.node: node.state for node in asked.reply(NodeList()).nodes} == {"n1": "ready", "n2": "lost"}
