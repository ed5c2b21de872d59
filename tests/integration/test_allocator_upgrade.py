"""Across an upgrade of the schema older code goes on, and the present code serves what it left behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from threading import Event, Thread

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from allocator import schema
from allocator.database import open_engine
from compose.services.local import LocalServices
from schemas.address import AddressAllocate, Allocated
from schemas.network import NetworkShow
from schemas.node import NodeList, NodeSync
from schemas.pool import PoolList
from tests.integration.allocating import Asked, only
from tests.integration.older_code import OlderCode

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("upgrade")]

FIRST = "0014"
"""Up to it older code was never meant to go on: nobody had used it."""

_SCRIPTS = ScriptDirectory("allocator/migrations")
REVISIONS = sorted(s.revision for s in _SCRIPTS.walk_revisions() if s.revision > FIRST)
_numbers = count()


@pytest.fixture
def empty(services: LocalServices) -> Iterator[Engine]:
    """A database without a table."""
    engine = open_engine(services.create_database(f"upgrade_{next(_numbers)}"))
    yield engine
    engine.dispose()


@dataclass
class Life:
    """A database in which all tables have rows, and what its pods were told."""

    engine: Engine
    asked: Asked
    request: AddressAllocate
    first: Allocated
    waiting: Allocated


@pytest.fixture(scope="module")
def life(services: LocalServices) -> Iterator[Life]:
    engine = open_engine(services.create_database("upgrade_newest"))
    schema.upgrade(engine)
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/24")
    asked.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    request = asked.ask("shop/web-0", "n1")
    first = asked.reply(request)
    waiting = asked.attach("shop/web-1", "n2")
    asked.release(waiting.attachment_id, "n2")
    shared = asked.attach("shop/batch-0", "n1")
    asked.release(shared.attachment_id, "n1")
    yield Life(engine, asked, request, first, waiting)
    engine.dispose()


class GoingOn:
    """Older code in a thread, which changes rows for as long as the block lasts."""

    def __init__(self, code: OlderCode) -> None:
        self._code, self._over = code, Event()
        self._thread = Thread(target=self._run)
        self.error: Exception | None = None
        self.turns = 0

    def _run(self) -> None:
        try:
            while not self._over.is_set() or self.turns == 0:
                self._code.update_all()
                self.turns += 1
        except Exception as error:
            self.error = error

    def __enter__(self) -> "GoingOn":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(60)


@pytest.mark.parametrize("revision", REVISIONS)
def test_older_code_goes_on_across_an_upgrade_and_the_present_code_serves_its_data(
    empty: Engine, life: Life, revision: str
):
    previous = str(_SCRIPTS.get_revision(revision).down_revision)
    assert schema.upgrade_to(empty, previous) == previous
    older = OlderCode(empty)
    older.fill_from(life.engine)
    before = older.rows()
    assert all(before.values()), before
    with GoingOn(older) as going:
        assert schema.upgrade_to(empty, revision) == revision
    assert going.error is None
    assert older.rows() == before
    older.update_all()
    older.write_all_again()
    assert older.rows() == before
    assert schema.upgrade(empty) == schema.head()
    serves(empty, life)


def serves(engine: Engine, life: Life) -> None:
    """The present code keeps its promises on these rows."""
    again = Asked(engine, nodes=[])
    again.sessions, again._requests = life.asked.sessions, 1000
    assert again.reply(life.request) == life.first
    sync = NodeSync(
        node="n1", session=again.sessions["n1"], attachments=(life.request.attachment_id,), limit=1
    )
    page = again.reply(sync)
    assert (page.stale, page.unknown) == ((), ())
    (prod,) = again.reply(NodeSync(node="n2", session=again.sessions["n2"])).networks
    assert (prod.network, prod.state) == ("prod", "present")
    assert only(again.attach("shop/web-1", "n1")) == only(life.waiting)
    assert again.release(life.request.attachment_id) == [only(life.first)]
    moved = again.attach("shop/web-0", "n2")
    assert (only(moved), moved.mac) == (only(life.first), life.first.mac)
    assert again.attach("shop/batch-1", "n2").pool == "default"
    assert again.reply(NetworkShow(network="prod")).state == "active"
    assert {pool.pool for pool in again.reply(PoolList(network="prod")).pools} == {"default", "web"}
    assert [node.node for node in again.reply(NodeList()).nodes] == ["n1", "n2"]
    assert "address.attached" in {row.event for row in again.history()}
    again.check_used()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE pools ADD COLUMN colour INT NOT NULL",
        "ALTER TABLE pools DROP COLUMN retain_s",
        "ALTER TABLE pools CHANGE COLUMN retain_s keep_s INT NULL",
    ],
)
def test_a_change_that_older_code_cannot_go_on_with_is_found(empty: Engine, life: Life, change: str):
    schema.upgrade(empty)
    older = OlderCode(empty)
    older.fill_from(life.engine)
    with empty.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(DBAPIError):
        older.write_all_again()
