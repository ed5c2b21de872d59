"""The primary database dies or steps down under load, its replica takes over: no answer is taken back."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import pytest
from sqlalchemy import Engine

from allocator import schema
from allocator.database import open_engine
from broker.outcome import Delivery, Outcome, Reply, Unavailable
from compose.services.mariadb_data import make_data
from compose.services.programs import find_programs
from schemas.address import AddressAllocate, AddressRelease, Allocated, Released
from schemas.message import Request
from tests.database import patient_engine
from tests.integration.allocating import Asked, only
from tests.integration.checking import changes_of, check, held_by
from tests.integration.replicated import LIMIT_S, Pair, ask, pair, until
from tests.integration.sql_proxy import LOST_AFTER, LOST_BEFORE, At, Fault, SqlProxy, sql_proxy

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("failover")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    make_data(find_programs().mariadb_install_db, folder)
    return folder / "data"


@pytest.fixture
def servers(tmp_path: Path, data: Path) -> Iterator[Pair]:
    with pair(tmp_path, data) as made:
        yield made


@pytest.fixture
def proxy(servers: Pair) -> Iterator[SqlProxy]:
    with sql_proxy(servers.primary.port) as made:
        yield made


@pytest.fixture
def asked(servers: Pair, proxy: SqlProxy) -> Iterator[Asked]:
    """An allocator behind the proxy, with network prod, that was made before there was a replica."""
    engine = open_engine(proxy.url(servers.primary.url()))
    schema.upgrade(engine)
    made = Asked(engine)
    made.network("prod", "10.1.0.0/16")
    servers.connect()
    yield made
    engine.dispose()


@pytest.fixture
def successor(servers: Pair) -> Iterator[Engine]:
    """The replica, asked directly."""
    engine = patient_engine(servers.replica.url())
    yield engine
    engine.dispose()


@pytest.fixture
def engine_in_a_hurry(servers: Pair, proxy: SqlProxy) -> Iterator[Engine]:
    """One that gives a statement a second."""
    engine = open_engine(proxy.url(servers.primary.url()), statement_s=1)
    yield engine
    engine.dispose()


def release_of(request: AddressAllocate) -> AddressRelease:
    fields = {"network", "node", "container_id", "ifname", "attachment_id"}
    return AddressRelease.model_validate(request.model_dump(include=fields))


class Load(Thread):
    """Batch after batch: new addresses, one given back and one asked for again, each until it is answered."""

    def __init__(self, asked: Asked, name: str, back: Event) -> None:
        super().__init__(name=name, daemon=True)
        self.asked, self.back = asked, back
        self.away, self.enough = Event(), Event()
        self.held: dict[UUID, str] = {}
        self.released: dict[UUID, str] = {}
        self.problem: BaseException | None = None

    def run(self) -> None:
        """Until `enough`."""
        try:
            kept: list[AddressAllocate] = []
            number = 0
            while not self.enough.is_set():
                fresh = [self.asked.ask(f"bank/{self.name}-{number}-{i}") for i in range(3)]
                again, old = (kept[-1], kept.pop(0)) if len(kept) > 3 else (fresh[0], None)
                batch = [*fresh, again, *([release_of(old)] if old else [])]
                self.note(batch, self.answered(batch))
                kept += fresh
                number += 1
        except BaseException as problem:
            self.problem = problem
            self.away.set()

    def answered(self, batch: list[Request]) -> list[Outcome]:
        """The outcomes, sooner or later."""
        deliveries = [Delivery(request, "node.n1", "reply", "c", "m") for request in batch]
        while True:
            try:
                return self.asked.allocator.apply(deliveries)
            except Unavailable:
                self.away.set()
                assert self.back.wait(LIMIT_S)

    def note(self, batch: list[Request], outcomes: list[Outcome]) -> None:
        """Remember what was answered; the same question gets the same answer."""
        for request, outcome in zip(batch, outcomes, strict=True):
            assert isinstance(outcome, Reply), outcome
            if isinstance(outcome.message, Allocated):
                address = only(outcome.message)
                assert self.held.setdefault(outcome.message.attachment_id, address) == address
            else:
                assert isinstance(request, AddressRelease)
                assert isinstance(outcome.message, Released)
                assert request.attachment_id is not None
                self.released[request.attachment_id] = self.held.pop(request.attachment_id)


def agrees(engine: Engine, loads: list[Load]) -> None:
    """All that was answered is in the database, once, and nothing else is."""
    held = {key: address for load in loads for key, address in load.held.items()}
    released = {key: address for load in loads for key, address in load.released.items()}
    assert held_by(engine) == held
    assert len(set(held.values())) == len(held)
    changes = {key: [("address.attached", address)] for key, address in held.items()}
    for key, address in released.items():
        changes[key] = [("address.attached", address), ("address.freed", address)]
    assert changes_of(engine, changes) == changes
    check(engine)


def test_a_primary_killed_under_load_takes_no_answer_with_it(
    servers: Pair, proxy: SqlProxy, asked: Asked, successor: Engine
):
    """It dies with a COMMIT on its way to it."""
    commits: list[str] = []

    def kill_at_one(query: str) -> None:
        if query == "COMMIT":
            commits.append(query)
            if len(commits) == 25:
                servers.primary.kill()

    proxy.judge = kill_at_one
    back = Event()
    loads = [Load(asked, name, back) for name in ("one", "two")]
    for load in loads:
        load.start()
    assert all(load.away.wait(LIMIT_S) for load in loads)
    answered = sum(len(load.held) for load in loads)
    servers.promote()
    proxy.target = servers.replica.port
    back.set()

    until(lambda: sum(len(load.held) for load in loads) > answered + 20, "more is answered")
    for load in loads:
        load.enough.set()
        load.join(LIMIT_S)
        assert not load.is_alive()
        assert load.problem is None, load.problem
    agrees(successor, loads)


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER], ids=str)
def test_a_commit_that_the_primary_died_in_is_done_once_by_its_successor(
    servers: Pair, proxy: SqlProxy, asked: Asked, successor: Engine, fault: Fault
):
    """With the replica's consent the commit was done; without, the successor never hears of it."""
    request = asked.ask("bank/api-0")
    proxy.target = None  # nobody gets in again
    proxy.judge = At(0, fault, only="COMMIT")
    with pytest.raises(Unavailable):
        asked.send(request)
    servers.primary.kill()
    servers.promote()
    proxy.target = servers.replica.port

    given = asked.reply(request)

    assert held_by(successor) == {request.attachment_id: only(given)}
    assert changes_of(successor, [request.attachment_id]) == {
        request.attachment_id: [("address.attached", only(given))]
    }
    check(successor)


def test_a_commit_that_no_replica_took_is_no_answer(
    servers: Pair, proxy: SqlProxy, asked: Asked, successor: Engine
):
    """The primary logged it and waits for the replica; then it dies, and nobody had seen the address."""
    first = asked.attach("bank/api-0")
    ask(servers.replica, "STOP SLAVE IO_THREAD")
    until(lambda: servers.replicas() == 0, "the primary has no replica")
    request = asked.ask("bank/api-1")
    outcomes: list[Outcome] = []
    waiting = Thread(target=lambda: outcomes.append(sent(asked, request)), daemon=True)
    waiting.start()
    until(lambda: commits_waiting(servers) == 1, "a commit waits for a replica")
    assert not outcomes

    proxy.target = None
    servers.primary.kill()
    waiting.join(LIMIT_S)
    assert outcomes == [None]
    servers.promote()
    proxy.target = servers.replica.port

    given = asked.reply(request)
    assert held_by(successor) == {
        first.attachment_id: only(first),
        request.attachment_id: only(given),
    }
    check(successor)


def sent(asked: Asked, request: Request) -> Outcome | None:
    """The outcome; None where the database was away."""
    try:
        return asked.send(request)
    except Unavailable:
        return None


def commits_waiting(servers: Pair) -> int:
    said = ask(servers.primary, "SHOW STATUS LIKE 'Rpl_semi_sync_master_wait_sessions'")
    return int(said[0]["Value"])


def test_an_old_primary_that_comes_back_read_only_is_waited_out(
    servers: Pair, proxy: SqlProxy, asked: Asked, successor: Engine
):
    first = asked.attach("bank/api-0")
    servers.primary.kill()
    servers.primary.start()
    ask(servers.primary, "SET GLOBAL read_only = ON")
    request = asked.ask("bank/api-1")
    for _ in range(3):
        with pytest.raises(Unavailable, match="read-only"):
            asked.send(request)
    servers.promote()
    proxy.target = servers.replica.port
    given = asked.reply(request)
    assert held_by(successor) == {first.attachment_id: only(first), request.attachment_id: only(given)}


def test_a_commit_that_hung_for_want_of_a_replica_is_found_done(
    servers: Pair, proxy: SqlProxy, asked: Asked, engine_in_a_hurry: Engine
):
    """Nobody waits for it any more, but the server does; when the replica is back it is done, once."""
    ask(servers.replica, "STOP SLAVE IO_THREAD")
    until(lambda: servers.replicas() == 0, "the primary has no replica")
    hasty = Asked(engine_in_a_hurry, nodes=())
    request = asked.ask("bank/api-0")
    with pytest.raises(Unavailable):
        hasty.send(request)
    ask(servers.replica, "START SLAVE IO_THREAD")
    until(lambda: commits_waiting(servers) == 0, "no commit waits")

    given = hasty.reply(request)

    assert held_by(engine_in_a_hurry) == {request.attachment_id: only(given)}
    assert changes_of(engine_in_a_hurry, [request.attachment_id]) == {
        request.attachment_id: [("address.attached", only(given))]
    }
    check(engine_in_a_hurry)


def test_an_old_primary_is_not_believed_even_where_nothing_is_to_be_written(
    servers: Pair, proxy: SqlProxy, asked: Asked, successor: Engine
):
    """It remembers an attachment that ended at the new one; FOR UPDATE is refused where nobody may write."""
    request = asked.ask("bank/api-0")
    asked.reply(request)
    ask(servers.primary, "SET GLOBAL read_only = ON")
    servers.promote()
    proxy.target = servers.replica.port
    Asked(successor, nodes=()).release(request.attachment_id)

    assert asked.refusal(request).code == "attachment_released"


def test_connections_that_outlive_a_switchover_do_not_keep_us_at_the_old_primary(
    servers: Pair, proxy: SqlProxy, asked: Asked, successor: Engine
):
    """The proxy hands new connections to the new primary and leaves the old ones where they were."""
    first = asked.attach("bank/api-0")
    ask(servers.primary, "SET GLOBAL read_only = ON")
    servers.promote()
    proxy.target = servers.replica.port

    second = asked.attach("bank/api-1")

    assert held_by(successor) == {
        first.attachment_id: only(first),
        second.attachment_id: only(second),
    }
