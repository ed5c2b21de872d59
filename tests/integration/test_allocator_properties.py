"""Whatever is asked in whatever order, on the real database: no promise about addresses is broken."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test
from sqlalchemy import Connection, Engine, event

from allocator.database import Database
from allocator.expiry import expire
from allocator.restoring import declare_restored, resume
from allocator.service import Allocator
from broker.outcome import Deferred, Delivery, Outcome
from compose.services.local import LocalServices
from schemas.network import NetworkCreate
from schemas.pool import PoolCreate
from tests.database import clear, patient_engine
from tests.promised import stored
from tests.promised.driving import NODES, V4, V6, subnet
from tests.promised.operators import Operators

pytestmark = pytest.mark.services

SEEDS = range(6)
BUDGET = settings(
    max_examples=10,
    phases=[Phase.generate],  # to shrink a failure takes minutes: `Phase.shrink` helps when there is one
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
CARVED: dict[str, dict[str, Any]] = {
    "web": {"policy": "pinned", "owners": ["shop/web-*"], "first": 2, "last": 4},
    "cart": {"policy": "shared", "owners": ["shop/cart-*"], "first": 5, "last": 6, "allow_mac": True},
    "lab": {"policy": "reserved", "first": 7, "last": 7},
    "more": {"policy": "pinned", "cooldown_s": 0, "first": 8, "last": 9, "allow_mac": True},
}


class Clock:
    """The database's time, as the test wants it."""

    def __init__(self, engine: Engine) -> None:
        self.seconds = 0
        self.transactions = 0
        event.listen(engine, "begin", self._begin)

    def _begin(self, connection: Connection) -> None:
        self.transactions += 1
        with connection.connection.cursor() as cursor:
            cursor.execute(f"SET timestamp = {self.seconds}")


class OnTheDatabase(Operators):
    """Two allocators that take turns."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        super().__init__()
        self.engine, self.clock = engine, clock
        self.clock.seconds = int((self.book.now - stored.EPOCH).total_seconds())
        self.reader = stored.Reader(engine)
        self.backup: Any = None
        self.start_allocators()

    def start_allocators(self) -> None:
        self.allocators = [Allocator(Database(self.engine), self.told) for _ in range(2)]

    def told(self, notices: Sequence[Any], touched: Any = (), *, answered: bool = False) -> None:
        """Nobody needs to be."""

    @initialize(dual=st.booleans())
    def begin(self, dual: bool) -> None:
        Database(self.engine).run(clear)
        self.make("prod", subnet(V4, "10.1.0.1"), *([subnet(V6)] if dual else []))
        self.make("side", subnet("10.2.0.0/29"))
        self.reader.skip()
        for node in NODES:
            self.sync(node, more=True)
        for name, fields in CARVED.items():
            first, last = fields["first"], fields["last"]
            v4, v6 = f"10.1.0.{first}-10.1.0.{last}", f"fd00:1::{first}-fd00:1::{last}"
            body = {key: value for key, value in fields.items() if key not in ("first", "last")}
            self.administer(PoolCreate, name != "more", pool=name, ranges=[v4, v6][: 1 + dual], **body)

    def make(self, name: str, *subnets: Any) -> None:
        """A network; without nodes it is active at once."""
        request = NetworkCreate(request_id=f"make-{name}", network=name, subnets=subnets)
        (outcome,) = self.allocators[0].apply([self.delivery(request, "operator.x")])
        assert isinstance(outcome, Deferred)
        for cidr in subnets:
            self.book.networks[name].add_subnet(cidr)

    def apply(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self.wait(1)
        self.clock.transactions = 0
        outcomes = self.allocators[0].apply(batch)
        assert self.clock.transactions == 1, "nobody else writes, and yet it had to be tried again"
        return outcomes

    def take_turns(self) -> None:
        self.allocators.reverse()

    def wait(self, seconds: int) -> None:
        self.book.now += timedelta(seconds=seconds)
        self.clock.seconds += seconds

    def free_overdue(self) -> None:
        expire(Database(self.engine), self.told)

    def check_stored(self) -> None:
        self.reader.compare(self.book)

    def keep_backup(self) -> None:
        self.backup = (stored.dump(self.engine), self.book.backup(), deepcopy(self.reader.chronicles))

    def restore_backup(self) -> None:
        if self.backup is None:
            return
        rows, book, self.reader.chronicles = self.backup
        self.backup, book.now, self.book = None, self.book.now, book
        stored.load(self.engine, rows)
        declare_restored(self.engine)
        for facts in book.nodes.values():
            facts.state = "lost" if facts.state == "ready" else facts.state
        book.paused = True
        self.start_allocators()
        self.check_stored()

    def end_pause(self) -> None:
        resume(self.engine)
        self.book.paused = False


@pytest.fixture
def own_engine(services: LocalServices, engine: Engine) -> Iterator[Engine]:
    """One whose clock is the test's."""
    own = patient_engine(services.database_url)
    yield own
    own.dispose()


@pytest.mark.parametrize("number", SEEDS)
def test_no_order_of_requests_breaks_a_promise(own_engine: Engine, number: int):
    clock = Clock(own_engine)
    begin = seed(number)(lambda: OnTheDatabase(own_engine, clock))
    run_state_machine_as_test(begin, settings=BUDGET)
