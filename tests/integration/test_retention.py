"""What is old is forgotten, and nothing that somebody may still need."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update

from allocator import tables as t
from allocator.database import Database
from allocator.retention import EVERY_S, Retention
from allocator.store import networks, retention
from allocator.timers import Timers
from tests.integration.allocating import Asked
from tests.integration.relaying import network, seqs_of, write

pytestmark = pytest.mark.services

DAYS = 30


def days_ago(engine: Engine, days: float) -> datetime:
    with engine.connect() as connection:
        return networks.database_time(connection) - timedelta(days=days)


def relayed(engine: Engine) -> None:
    """Everything so far was relayed."""
    with engine.begin() as connection:
        connection.execute(update(t.networks).values(relayed_seq=t.networks.c.seq))


def tick(engine: Engine) -> None:
    Retention(Database(engine), DAYS).tick()


def test_history_goes_when_it_is_old_and_stays_while_it_is_young(engine: Engine):
    prod = network(engine)
    write(engine, prod, 3, at=days_ago(engine, DAYS + 0.01))
    young = write(engine, prod, 2, at=days_ago(engine, DAYS - 0.01))
    relayed(engine)
    tick(engine)
    assert seqs_of(engine, prod) == young


def test_history_that_was_not_relayed_stays_however_old_it_is(engine: Engine):
    prod = network(engine)
    write(engine, prod, 3, at=days_ago(engine, 2 * DAYS))
    relayed(engine)
    kept = write(engine, prod, 2, at=days_ago(engine, 2 * DAYS))
    tick(engine)
    assert seqs_of(engine, prod) == kept


@pytest.mark.parametrize("state", ["system", "deleted"])
def test_the_history_of_nodes_and_of_deleted_networks_goes_too(engine: Engine, state: str):
    with engine.connect() as connection:
        system = connection.execute(
            select(t.networks.c.id).where(t.networks.c.state == "system")
        ).scalar_one()
    it = system if state == "system" else network(engine, "gone", state)
    write(engine, it, 2, at=days_ago(engine, 2 * DAYS))
    relayed(engine)
    tick(engine)
    assert seqs_of(engine, it) == []


def test_one_row_whose_time_is_wrong_keeps_no_other(engine: Engine):
    prod = network(engine)
    wrong = write(engine, prod, 1, at=datetime(2199, 1, 1))
    write(engine, prod, 2, at=days_ago(engine, 2 * DAYS))
    relayed(engine)
    tick(engine)
    assert seqs_of(engine, prod) == wrong


def test_many_networks_and_many_rows_go_in_transactions_that_are_small(engine: Engine):
    class Counting(Database):
        def run(self, work: Any) -> Any:
            before = rows(engine)
            found = super().run(work)
            gone.append(before - rows(engine))
            return found

    gone: list[int] = []
    old = days_ago(engine, 2 * DAYS)
    for number in range(60):
        write(engine, network(engine, f"n{number}"), 5, at=old)
    write(engine, network(engine, "big"), 2500, at=old)
    relayed(engine)
    now = [0.0]
    kept = Retention(Counting(engine), DAYS, clock=lambda: now[0])
    kept.tick()
    assert rows(engine) == 0
    assert max(gone) == 500
    assert gone[-1] == 0


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(t.history)).scalar_one())


def test_a_backlog_goes_away_over_many_calls_and_then_a_minute_passes(engine: Engine):
    now = [0.0]

    def clock() -> float:
        now[0] += 0.1
        return now[0]

    prod = network(engine)
    write(engine, prod, 3000, at=days_ago(engine, 2 * DAYS))
    relayed(engine)
    kept = Retention(Database(engine), DAYS, clock=clock)
    left = []
    while rows(engine):
        kept.tick()
        left.append(rows(engine))
    assert len(left) > 1, "a call has a limit"
    kept.tick()
    write(engine, prod, 1, at=days_ago(engine, 2 * DAYS))
    relayed(engine)
    kept.tick()
    assert rows(engine) == 1, "not yet"
    now[0] += EVERY_S
    kept.tick()
    assert rows(engine) == 0


def request(engine: Engine, name: str, days: float, **fields: Any) -> None:
    with engine.connect() as connection:
        owner = connection.execute(select(t.networks.c.id).limit(1)).scalar_one()
    given = {
        "request_id": name,
        "name": "network.create",
        "network_id": owner,
        "fingerprint": "f",
        "answer": {"result": {}},
        "waiters": [],
        "has_waiters": 0,
        "deadline": None,
        "created_at": days_ago(engine, days),
    }
    with engine.begin() as connection:
        connection.execute(insert(t.requests).values(given | fields))


def test_an_old_request_is_forgotten_once_it_was_answered_and_nobody_waits(engine: Engine):
    network(engine)
    later = days_ago(engine, -1)
    request(engine, "old", DAYS + 1)
    request(engine, "young", DAYS - 1)
    request(engine, "awaited", DAYS + 1, has_waiters=1, waiters=[["reply", "c"]])
    request(engine, "open", DAYS + 1, deadline=later)
    request(engine, "unanswered", DAYS + 1, answer=None, deadline=later)
    tick(engine)
    with engine.connect() as connection:
        assert set(connection.execute(select(t.requests.c.request_id)).scalars()) == {
            "young",
            "awaited",
            "open",
            "unanswered",
        }


def test_the_timers_forget_too(engine: Engine):
    asked, prod = Asked(engine, nodes=()), network(engine)
    write(engine, prod, 2, at=days_ago(engine, 2 * DAYS))
    relayed(engine)
    Timers(asked.database, asked.committed).tick()
    assert rows(engine) == 2, "without retention everything is kept"
    Timers(asked.database, asked.committed, retention=Retention(asked.database, DAYS)).tick()
    assert rows(engine) == 0


def test_a_failure_to_forget_is_no_failure_of_the_timers(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(retention, "due", fail)
    asked = Asked(engine, nodes=())
    Timers(asked.database, asked.committed, retention=Retention(asked.database, DAYS)).tick()


def test_a_long_history_costs_no_more_than_what_goes_of_it(engine: Engine):
    prod, old = network(engine), days_ago(engine, DAYS + 1)
    write(engine, prod, 700, at=old)
    for _ in range(10):
        write(engine, prod, 2000)
    relayed(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE TABLE history")
    tick(engine)
    assert rows(engine) == 20_000
    with engine.begin() as connection:
        before, seq = _rows_read(connection), seqs_of(engine, prod)[-1]
        assert retention.due(connection, old, 50) == []
        assert retention.forget_history(connection, prod, old, seq, 500) == 0
        assert _rows_read(connection) - before < 200


def _rows_read(connection: Any) -> int:
    names = "('Handler_read_next', 'Handler_read_rnd_next', 'Handler_read_key', 'Handler_read_prev')"
    found = connection.exec_driver_sql(f"SHOW SESSION STATUS WHERE Variable_name IN {names}")
    return sum(int(value) for _, value in found)
