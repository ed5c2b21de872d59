"""Every statement of a unit of work fails once, in every way, its COMMIT too: the answer stays right."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from allocator import database, memory
from allocator.database import Database, open_engine
from allocator.memory import Memory
from broker.outcome import Delivery, Outcome, Reply, Unavailable
from compose.services.local import LocalServices
from schemas.address import AddressAllocate, AddressRelease, Allocated, Released
from schemas.message import Request
from tests.integration.allocating import Asked, only
from tests.integration.checking import changes_of, check, held_by
from tests.integration.sql_proxy import (
    DEADLOCK,
    LOCK_TIMEOUT,
    LOST_AFTER,
    LOST_BEFORE,
    LOST_DURING,
    READ_ONLY,
    SILENCE,
    SNAPSHOT,
    At,
    Fault,
    SqlProxy,
    sql_proxy,
)

pytestmark = pytest.mark.services

AT_COMMIT = [LOST_BEFORE, LOST_DURING, LOST_AFTER, DEADLOCK, LOCK_TIMEOUT]
ANYWHERE = [LOST_BEFORE, LOST_AFTER, DEADLOCK, LOCK_TIMEOUT, SNAPSHOT, READ_ONLY]


@pytest.fixture
def proxy(services: LocalServices) -> Iterator[SqlProxy]:
    with sql_proxy(services.mariadb.port) as made:
        yield made


@pytest.fixture
def far(proxy: SqlProxy, services: LocalServices) -> Iterator[Engine]:
    """An engine behind the proxy."""
    engine = open_engine(proxy.url(services.database_url))
    yield engine
    engine.dispose()


@pytest.fixture
def near(engine: Engine) -> Asked:
    """An allocator beside the proxy, for what goes before; network prod with a pinned pool for shop/*."""
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/16")
    asked.pool("shop", "10.1.16.0-10.1.31.255", owners=["shop/*"])
    return asked


@pytest.fixture
def asked(near: Asked, far: Engine) -> Asked:
    """The allocator behind the proxy, with a connection in its pool."""
    made = Asked(far, nodes=())
    made.allocator.apply([])
    return made


def together(asked: Asked, *batch: Request) -> list[Outcome]:
    return asked.allocator.apply([Delivery(r, "operator.x", "reply", "c", "m") for r in batch])


def answer(outcome: Outcome) -> Any:
    assert isinstance(outcome, Reply), outcome
    return outcome.message


@dataclass
class Mixed:
    """A batch with one request of each kind, and what went before it."""

    new: AddressAllocate
    back: AddressAllocate
    old: AddressAllocate
    again: AddressAllocate
    release: AddressRelease
    before: dict[UUID, str]

    def check(self, outcomes: list[Outcome], engine: Engine) -> None:
        """Each is answered as if nothing had happened, and the database agrees."""
        fresh, back, released, again = map(answer, outcomes)
        assert isinstance(fresh, Allocated)
        assert only(back) == self.before[self.back.attachment_id]
        assert only(again) == self.before[self.again.attachment_id]
        assert isinstance(released, Released)
        freed = self.before[self.old.attachment_id]
        assert [str(a) for a in released.addresses] in ([], [freed])  # [] where it had been done already
        attachments = [r.attachment_id for r in (self.new, self.back, self.old, self.again)]
        held = held_by(engine, attachments)
        assert held == {
            self.new.attachment_id: only(fresh),
            self.back.attachment_id: only(back),
            self.again.attachment_id: only(again),
        }
        changes = {key: [("address.attached", address)] for key, address in held.items()}
        changes[self.old.attachment_id] = [("address.attached", freed), ("address.freed", freed)]
        assert changes_of(engine, attachments) == changes


def mixed(near: Asked, name: str) -> Mixed:
    old, again = near.ask(f"bank/old-{name}"), near.ask(f"bank/again-{name}")
    first, back = near.ask(f"shop/web-{name}"), near.ask(f"shop/web-{name}", "n2")
    given = [answer(outcome) for outcome in together(near, old, again, first)]
    near.release(first.attachment_id)
    release = release_of(old)
    keys = [old.attachment_id, again.attachment_id, back.attachment_id]
    before = {key: only(allocated) for key, allocated in zip(keys, given, strict=True)}
    return Mixed(near.ask(f"bank/new-{name}"), back, old, again, release, before)


def release_of(request: AddressAllocate) -> AddressRelease:
    fields = {"network", "node", "container_id", "ifname", "attachment_id"}
    return AddressRelease.model_validate(request.model_dump(include=fields))


def serve(asked: Asked, batch: Mixed) -> list[Outcome]:
    return together(asked, batch.new, batch.back, batch.release, batch.again)


@pytest.mark.parametrize("fault", ANYWHERE, ids=str)
def test_a_fault_at_any_statement_costs_one_more_try_and_changes_no_answer(
    asked: Asked, near: Asked, proxy: SqlProxy, engine: Engine, fault: Fault
):
    met = 0
    while True:
        batch = mixed(near, f"s{met}")
        proxy.queries.clear()
        here = proxy.judge = At(met, fault)
        outcomes = serve(asked, batch)
        batch.check(outcomes, engine)
        if not here.met:
            break
        met += 1
        assert proxy.queries[-1] == "COMMIT"
    assert met == len(proxy.queries) > 5  # the last went through whole: so many statements had their turn
    check(engine)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("fault", AT_COMMIT, ids=str)
def test_a_fault_at_commit_again_and_again_changes_no_answer(
    asked: Asked, near: Asked, proxy: SqlProxy, engine: Engine, fault: Fault, times: int
):
    batch = mixed(near, "c")
    here = proxy.judge = At(0, fault, only="COMMIT", times=times)
    batch.check(serve(asked, batch), engine)
    assert here.met
    check(engine)


@pytest.mark.parametrize("fault", [*AT_COMMIT, READ_ONLY], ids=str)
def test_a_fault_that_stays_is_an_outage_and_the_same_batch_is_right_later(
    asked: Asked, near: Asked, proxy: SqlProxy, engine: Engine, fault: Fault
):
    batch = mixed(near, "o")
    proxy.judge = At(0, fault, only="COMMIT", times=1000)
    with pytest.raises(Unavailable):
        serve(asked, batch)
    proxy.judge = None
    batch.check(serve(asked, batch), engine)
    check(engine)


def test_a_unit_of_work_costs_its_statements_and_one_commit(far: Engine, proxy: SqlProxy):
    made = Database(far)
    made.run(lambda connection: connection.execute(text("SELECT 1")))
    proxy.queries.clear()
    for number in (2, 3):
        made.run(lambda connection, n=number: connection.execute(text(f"SELECT {n}")))
    assert proxy.queries == ["SELECT 2", "COMMIT", "SELECT 3", "COMMIT"]


def test_a_network_that_was_just_served_is_asked_for_and_written_in_one_way_each(
    asked: Asked, proxy: SqlProxy
):
    requests = [asked.ask(f"bank/{number}") for number in range(6)]  # more than are presumed to be new
    together(asked, *requests[:1])
    for batch in (requests[1:], list(map(release_of, requests))):  # new rows, and some that change
        proxy.queries.clear()
        before = proxy.sends
        together(asked, *batch)
        assert proxy.sends - before == 2
        assert proxy.queries[0].endswith("FOR UPDATE")
        assert proxy.queries[-1] == "COMMIT"


def test_a_new_pod_alone_costs_one_way(asked: Asked, proxy: SqlProxy):
    asked.reply(asked.ask("bank/one"))
    proxy.queries.clear()
    before = proxy.sends
    asked.reply(asked.ask("bank/two"))
    assert proxy.sends - before == 1
    assert proxy.queries[0].startswith("UPDATE networks")
    assert proxy.queries[-1] == "COMMIT"


@pytest.mark.parametrize("fault", ANYWHERE, ids=str)
def test_a_fault_at_any_statement_of_a_new_pod_alone_changes_no_answer(
    asked: Asked, proxy: SqlProxy, engine: Engine, monkeypatch: pytest.MonkeyPatch, fault: Fault
):
    monkeypatch.setattr(memory, "_DOUBTED", 0)
    asked.reply(asked.ask("bank/first"))
    met, pods = 0, {}
    while True:
        pod = asked.ask(f"bank/new-{met}")
        proxy.queries.clear()
        here = proxy.judge = At(met, fault)
        pods[pod.attachment_id] = only(asked.reply(pod))
        if not here.met:
            break
        met += 1
    assert met >= len(proxy.queries) == 6  # the last went through in one way
    assert held_by(engine, pods) == pods
    assert changes_of(engine, pods) == {key: [("address.attached", pods[key])] for key in pods}
    check(engine)


def test_a_network_that_has_another_id_than_it_had_is_read_again(
    asked: Asked, near: Asked, monkeypatch: pytest.MonkeyPatch
):
    """As after a restored backup: what was looked up with the old id is nothing, or somebody else's."""
    first = asked.ask("shop/web-0")
    given = only(asked.reply(first))
    near.release(first.attachment_id)
    monkeypatch.setattr(Memory, "id_of", lambda _, name: 999)
    assert only(asked.reply(asked.ask("shop/web-0", "n2"))) == given


def test_a_lock_timeout_takes_back_what_the_unit_had_written(asked: Asked, proxy: SqlProxy, engine: Engine):
    """The server undoes one statement; were the rest kept, the second try would write it twice."""
    proxy.judge = At(1, LOCK_TIMEOUT)

    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE epochs SET epoch = epoch + 1"))
        connection.execute(text("UPDATE epochs SET epoch = epoch + 1"))

    asked.database.run(work)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT epoch FROM epochs")).scalar_one() == 3


def test_a_commit_that_the_server_refused_leaves_nothing_open_for_the_next_unit(
    asked: Asked, proxy: SqlProxy, engine: Engine
):
    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE epochs SET epoch = epoch + 1"))

    proxy.judge = At(0, Fault("1180", error=(1180, "Got error 28 during COMMIT")), only="COMMIT")
    with pytest.raises(Unavailable):
        asked.database.run(work)
    asked.database.run(work)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT epoch FROM epochs")).scalar_one() == 2


def test_the_log_tells_once_how_often_a_unit_was_tried_and_why(asked: Asked, proxy: SqlProxy):
    proxy.judge = At(0, DEADLOCK, only="UPDATE", times=3)
    with capture_logs() as lines:
        asked.allocator.apply([])
        asked.allocator.apply([])
    (line,) = lines
    assert (line["log_level"], line["event"], line["times"]) == ("warning", "transaction tried again", 3)
    assert all("Deadlock" in reason for reason in line["reasons"])


def test_a_server_that_falls_silent_is_asked_anew_and_its_locks_are_not_waited_for_in_vain(
    near: Asked, proxy: SqlProxy, services: LocalServices, engine: Engine
):
    """The server never hears that the connection is gone, and keeps its transaction and locks."""
    hasty = open_engine(proxy.url(services.database_url), statement_s=1, idle_s=2)
    asked = Asked(hasty, nodes=())
    batch = mixed(near, "silent")
    proxy.judge = At(0, SILENCE, only="COMMIT")
    batch.check(serve(asked, batch), engine)
    check(engine)
    hasty.dispose()


def test_a_server_that_answers_nobody_is_given_up_before_whoever_waits_gives_up(
    proxy: SqlProxy, services: LocalServices, monkeypatch: pytest.MonkeyPatch
):
    """However many tries are left."""
    monkeypatch.setattr(database, "_GIVE_UP_S", 0.5)
    hasty = open_engine(proxy.url(services.database_url), statement_s=1)
    Database(hasty).run(lambda connection: None)
    proxy.queries.clear()
    proxy.judge = At(0, SILENCE, times=1000)
    with pytest.raises(Unavailable, match="timed out"):
        Database(hasty).run(lambda connection: connection.execute(text("SELECT 1")))
    assert proxy.queries == ["SELECT 1"]
    hasty.dispose()


def test_idle_connections_that_were_all_cut_cost_one_more_try(
    asked: Asked, near: Asked, proxy: SqlProxy, engine: Engine
):
    batch = mixed(near, "cut")
    proxy.cut()
    batch.check(serve(asked, batch), engine)


def test_a_row_that_matches_counts_also_where_nothing_changes(engine: Engine):
    """What guards a change asks for: whether the row is as it was read."""
    with engine.begin() as connection:
        assert connection.execute(text("UPDATE epochs SET epoch = epoch WHERE id = 1")).rowcount == 1


def test_of_statements_that_are_sent_together_each_is_seen_and_the_first_failure_ends_them(engine: Engine):
    together = "UPDATE epochs SET epoch = epoch + %s; {}; UPDATE epochs SET epoch = epoch + %s"
    with pytest.raises(DBAPIError, match="nowhere"), engine.begin() as connection:
        connection.exec_driver_sql(together.format("DELETE FROM nowhere"), (1, 10))
    with engine.begin() as connection:
        connection.exec_driver_sql(together.format("UPDATE epochs SET epoch = epoch + 100"), (1, 10))
        assert connection.execute(text("SELECT epoch FROM epochs")).scalar_one() == 112
