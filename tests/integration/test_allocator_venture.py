"""New pods are decided on what was remembered; where it was wrong, the answer is the ordinary one."""

from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from allocator import memory
from broker import haste
from broker.outcome import Delivery, Outcome, Reply
from compose.services.local import LocalServices
from schemas.address import AddressAllocate
from schemas.message import Request
from tests.database import patient_engine
from tests.integration.allocating import Asked, only
from tests.integration.checking import check

pytestmark = pytest.mark.services

PRESUMED, READ = "UPDATE networks SET seq", "SELECT"


class Sent:
    """What is sent to the database, by its beginning."""

    def __init__(self, engine: Engine) -> None:
        self.beginnings: list[str] = []
        self.failed = 0
        event.listen(engine, "before_cursor_execute", self._note)
        event.listen(engine, "handle_error", self._note_failure)

    def _note(self, _: Connection, __: Any, sql: str, ___: Any, ____: Any, _____: Any) -> None:
        self.beginnings.append(PRESUMED if sql.startswith(PRESUMED) else sql.split(maxsplit=1)[0])

    def _note_failure(self, _: Any) -> None:
        self.failed += 1

    def of(self, call: Callable[[], Any]) -> list[str]:
        """What `call` sends."""
        self.beginnings.clear()
        self.failed = 0
        call()
        return self.beginnings


@pytest.fixture
def rival(engine: Engine) -> Asked:
    """Another allocator of network prod, which has a pinned pool for shop/*, and a small one."""
    asked = Asked(engine)
    asked.network("prod", "10.1.0.0/24")
    asked.pool("shop", "10.1.0.64-10.1.0.95", owners=["shop/*"])
    asked.pool("small", "10.1.0.10-10.1.0.12", policy="shared", cooldown_s=0, owners=["small/*"])
    return asked


@pytest.fixture
def own(services: LocalServices, rival: Asked) -> Iterator[Engine]:
    """The engine of the allocator that is looked at."""
    made = patient_engine(services.database_url)
    yield made
    made.dispose()


@pytest.fixture
def sent(own: Engine) -> Sent:
    return Sent(own)


@pytest.fixture
def asked(own: Engine) -> Asked:
    """Remembers network prod: it has just served somebody of each pool."""
    made = Asked(own, nodes=())
    made.attach("bank/first")
    made.attach("shop/first")
    return made


def presumed(sent: Sent, asked: Asked, request: AddressAllocate) -> bool:
    """Whether `request` is served in one way."""
    return sent.of(lambda: asked.reply(request)) == [PRESUMED]


def test_new_pods_are_served_in_one_way_each(asked: Asked, sent: Sent, engine: Engine):
    for number in range(12):
        assert presumed(sent, asked, asked.ask(f"bank/{number}"))
        assert presumed(sent, asked, asked.ask(f"shop/{number}"))
    check(engine)


def test_a_few_at_once_are_served_in_one_way_and_many_are_not(asked: Asked, sent: Sent, engine: Engine):
    few, many = ([asked.ask(f"bank/{size}-{number}") for number in range(size)] for size in (4, 5))
    assert sent.of(lambda: asked.together(*few)) == [PRESUMED]
    assert sent.of(lambda: asked.together(*many))[0] == READ
    check(engine)


def test_one_owner_twice_at_once_has_two_addresses_of_a_shared_pool_and_one_pinned(
    asked: Asked, sent: Sent, engine: Engine
):
    shared = [asked.ask("bank/same") for _ in range(2)]
    pinned = [asked.ask("shop/same") for _ in range(2)]
    for batch, addresses in ((shared, 2), (pinned, 1)):
        outcomes = []
        assert sent.of(lambda b=batch, o=outcomes: o.extend(asked.together(*b))) == [PRESUMED]
        assert len({only(outcome.message) for outcome in outcomes if isinstance(outcome, Reply)}) == addresses
    check(engine)


def test_addresses_that_were_freed_are_presumed_too(asked: Asked, sent: Sent, engine: Engine):
    for number in range(3):
        asked.release(asked.attach(f"small/{number}").attachment_id)
    asked.attach("small/3")
    assert presumed(sent, asked, asked.ask("small/4"))
    check(engine)


def test_an_owner_that_comes_back_has_what_it_had(asked: Asked, sent: Sent, engine: Engine):
    for owner in ("shop/web-0", "bank/api-0"):
        first = asked.attach(owner)
        asked.release(first.attachment_id)
        again = asked.ask(owner, "n2")
        given = []
        assert sent.of(lambda r=again, g=given: g.append(asked.reply(r)))[:2] == [PRESUMED, READ]
        assert only(given[0]) == only(first)
        asked.allocator = Asked(asked.engine, nodes=()).allocator  # one that doubts nothing yet
        asked.attach("bank/another")
    check(engine)


def test_after_a_wrong_guess_it_reads_first_for_a_while(asked: Asked, sent: Sent):
    first = asked.attach("shop/web-0")
    asked.release(first.attachment_id)
    assert not presumed(sent, asked, asked.ask("shop/web-0"))
    others = [asked.ask(f"bank/{number}") for number in range(memory._DOUBTED + 1)]
    assert [presumed(sent, asked, request) for request in others] == [False] * memory._DOUBTED + [True]


def test_a_request_that_comes_again_has_the_same_answer(asked: Asked, rival: Asked, sent: Sent):
    request = asked.ask("bank/again")
    given = only(asked.reply(request))
    assert sent.of(lambda: asked.reply(request))[:2] == [PRESUMED, READ]
    assert only(asked.reply(request)) == given


def test_an_attachment_whose_history_is_gone_has_the_same_answer(asked: Asked, sent: Sent, engine: Engine):
    """Retention forgets history; the row stays."""
    request = asked.ask("bank/old")
    given = only(asked.reply(request))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM history"))
        connection.execute(text("UPDATE allocations SET owner = 'bank/renamed' WHERE owner = 'bank/old'"))
    assert asked.refusal(request).code == "attachment_conflict"
    assert [str(view.address) for view in asked.addresses(owner="bank/renamed")] == [given]
    assert asked.check_used() == 3


def test_an_attachment_that_was_ended_is_not_begun(asked: Asked, sent: Sent):
    request = asked.ask("bank/late")
    asked.release(request.attachment_id)  # it overtook its allocate
    assert sent.of(lambda: asked.refusal(request))[:2] == [PRESUMED, READ]
    assert asked.refusal(request).code == "attachment_released"


def test_what_another_allocator_changed_is_seen(asked: Asked, rival: Asked, sent: Sent, engine: Engine):
    taken = rival.attach("bank/rival")
    sent.beginnings.clear()
    given = asked.attach("bank/own")
    assert sent.beginnings[:2] == [PRESUMED, READ]
    assert only(given) != only(taken)
    check(engine)


def test_a_network_whose_history_went_on_is_read(asked: Asked, rival: Asked, sent: Sent):
    rival.pass_time(1)
    assert sent.of(lambda: asked.attach("bank/own"))[:2] == [PRESUMED, READ]


@pytest.mark.parametrize(
    ("change", "code"),
    [("paused = 1", "paused"), ("epoch = epoch + 1", None)],
)
def test_a_database_that_was_restored_is_noticed(
    asked: Asked, sent: Sent, engine: Engine, change: str, code: str | None
):
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE epochs SET {change}"))  # noqa: S608
    request = asked.ask("bank/late")
    if code is not None:
        assert asked.refusal(request).code == code
    else:
        assert not presumed(sent, asked, request)
        assert asked.history(owner="bank/late")[0].seq >> 40 == 2


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_database_whose_clock_was_set_is_believed(asked: Asked, sent: Sent, own: Engine, ahead: int):
    with own.connect() as connection:
        told = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()

    def set_clock(session: Any, _: Any, __: Any) -> None:
        with session.cursor() as cursor:
            cursor.execute(f"SET timestamp = {told.replace(tzinfo=UTC).timestamp() + ahead}")

    event.listen(own, "checkout", set_clock)
    assert not presumed(sent, asked, asked.ask("bank/then"))
    (row,) = asked.history(owner="bank/then")
    assert abs((row.at.replace(tzinfo=None) - told).total_seconds() - ahead) < 60


def test_what_it_writes_is_of_now(asked: Asked, sent: Sent, engine: Engine):
    assert presumed(sent, asked, asked.ask("bank/now"))
    (row,) = asked.history(owner="bank/now")
    with engine.connect() as connection:
        told = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
    assert -0.2 < (told - row.at.replace(tzinfo=None)).total_seconds() < 30


def at_once(asked: Asked, *requests: Request) -> list[Outcome] | None:
    deliveries = [Delivery(request, "node.n1", "reply", "c", "m") for request in requests]
    return asked.allocator.at_once(deliveries)


def test_an_event_loop_is_given_new_pods_alone(asked: Asked, sent: Sent, engine: Engine):
    first, second = asked.ask("bank/one"), asked.ask("shop/two")
    outcomes = at_once(asked, first, second)
    assert outcomes is not None
    given = [outcome.message for outcome in outcomes if isinstance(outcome, Reply)]
    assert [only(asked.reply(first)), only(asked.reply(second))] == [only(message) for message in given]
    asked.attach("bank/another")
    assert at_once(asked, asked.ask("bank/mac", mac="02:00:00:00:00:01")) is None
    check(engine)


def test_an_event_loop_does_not_wait_for_a_connection(asked: Asked, own: Engine, engine: Engine):
    own.dispose()  # none is open
    assert at_once(asked, asked.ask("bank/one")) is None
    asked.attach("bank/two")
    assert at_once(asked, asked.ask("bank/three")) is not None
    check(engine)


def test_an_event_loop_meets_a_lost_connection_once(asked: Asked, sent: Sent, engine: Engine):
    with engine.begin() as connection:
        ids = (
            "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND command = 'Sleep'"
        )
        for (number,) in connection.execute(text(ids)).all():
            connection.execute(text(f"KILL {number}"))
    lost = asked.ask("bank/lost")
    assert at_once(asked, lost) is None
    sent.beginnings.clear()
    assert at_once(asked, lost) is None
    assert sent.beginnings == []
    asked.reply(lost)
    assert at_once(asked, asked.ask("bank/next")) is not None
    check(engine)


def test_an_event_loop_is_spared_a_slow_database(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(haste, "_QUICK_S", 0.0)
    assert at_once(asked, asked.ask("bank/one")) is not None
    assert at_once(asked, asked.ask("bank/two")) is None
