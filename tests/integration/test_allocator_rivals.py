"""Two allocators change one network at once, with no queue between them: the database keeps order."""

import random
from collections.abc import Iterator, Sequence
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import IntegrityError

from broker.outcome import Delivery, Outcome, Refused, Reply, Unavailable
from compose.services.local import LocalServices
from schemas.address import AddressAllocate, AddressRelease, Allocated
from schemas.message import Request
from tests.database import patient_engine
from tests.integration.allocating import Asked, only
from tests.integration.checking import changes_of, check, held_by

pytestmark = pytest.mark.services

RIVALS = 2
BATCHES = 40
LIMIT_S = 60.0
NO = {"attachment_released", "owner_attached_elsewhere", "exhausted"}
"""What an allocate may be told here; everything else is a failure."""


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod with a pinned pool for shop/* and a small one that all of team/* want."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("shop", "10.1.0.64-10.1.0.95", owners=["shop/*"])
    made.pool("team", "10.1.0.128-10.1.0.135", policy="shared", owners=["team/*"], cooldown_s=0)
    return made


@pytest.fixture
def engines(services: LocalServices) -> Iterator[list[Engine]]:
    """One for each rival."""
    made = [patient_engine(services.database_url) for _ in range(RIVALS)]
    yield made
    for engine in made:
        engine.dispose()


class Unlocked:
    """Takes FOR UPDATE off every statement of an engine, so that unique keys alone keep order."""

    def __init__(self, engine: Engine) -> None:
        self.taken = 0
        event.listen(engine, "before_cursor_execute", self._strip, retval=True)

    def _strip(self, _: Connection, __: Any, sql: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        bare = sql.replace(" FOR UPDATE", "")
        self.taken += bare != sql
        return bare, parameters


def wanted(asked: Asked, seed: int) -> list[list[Request]]:
    """Batches over a few owners and attachments: the rivals ask the same, in orders of their own."""
    same, own = random.Random(1), random.Random(seed)
    owners = [f"bank/api-{i}" for i in range(6)]
    owners += [f"shop/web-{i}" for i in range(6)] + [f"team/job-{i}" for i in range(6)]
    allocates = [
        asked.ask(
            same.choice(owners),
            same.choice(("n1", "n2")),
            attachment_id=UUID(int=same.getrandbits(128), version=4),
            container_id=f"container-{i}",
        )
        for i in range(BATCHES * 3)
    ]
    timed: list[tuple[float, Request]] = []
    for number, request in enumerate(allocates):
        timed.append((number + own.uniform(0, 12), request))
        if own.random() < 0.5:
            timed.append((number + own.uniform(0, 24), request))  # again, perhaps before it ends
        if own.random() < 0.7:
            timed.append((number + own.uniform(6, 30), release_of(request)))
    ordered = [request for _, request in sorted(timed, key=lambda entry: entry[0])]
    size = len(ordered) // BATCHES + 1
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def release_of(request: AddressAllocate) -> AddressRelease:
    fields = {"network", "node", "container_id", "ifname", "attachment_id"}
    return AddressRelease.model_validate(request.model_dump(include=fields))


class Rival(Thread):
    """Applies its batches as a consumer would: what failed is brought again."""

    def __init__(self, engine: Engine, batches: Sequence[list[Request]]) -> None:
        super().__init__(daemon=True)
        self.asked, self.batches = Asked(engine, nodes=()), batches
        self.given: dict[UUID, str] = {}
        self.refused: list[str] = []
        self.lost = 0
        self.problem: BaseException | None = None

    def run(self) -> None:
        """All batches."""
        try:
            for batch in self.batches:
                for request, outcome in zip(batch, self.applied(batch), strict=True):
                    self.note(request, outcome)
        except BaseException as problem:
            self.problem = problem

    def applied(self, batch: list[Request]) -> list[Outcome]:
        deliveries = [Delivery(request, "node.n1", "reply", "c", "m") for request in batch]
        for _ in range(20):
            try:
                return self.asked.allocator.apply(deliveries)
            except (IntegrityError, Unavailable):
                self.lost += 1  # five times in a row the other was faster
        raise TimeoutError("one rival keeps the other from ever getting through")

    def note(self, request: Request, outcome: Outcome) -> None:
        """Every answer for one attachment is the same, or a no for a reason."""
        if isinstance(outcome, Refused):
            self.refused.append(outcome.error.code)
            return
        assert isinstance(outcome, Reply), outcome
        if isinstance(outcome.message, Allocated):
            address = only(outcome.message)
            assert self.given.setdefault(outcome.message.attachment_id, address) == address


def compete(asked: Asked, engines: Sequence[Engine]) -> list[Rival]:
    rivals = [Rival(engine, wanted(asked, seed)) for seed, engine in enumerate(engines)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join(LIMIT_S)
        assert not rival.is_alive()
        assert rival.problem is None, rival.problem
    return rivals


def agree(rivals: Sequence[Rival], engine: Engine) -> None:
    """Both were told the same of each attachment, and it is what history says and, if it lives, its row."""
    given: dict[UUID, str] = {}
    for rival in rivals:
        assert set(rival.refused) <= NO
        for attachment_id, address in rival.given.items():
            assert given.setdefault(attachment_id, address) == address
    changes = changes_of(engine, given)
    for attachment_id, address in given.items():
        (event_name, where), *later = changes[attachment_id]
        assert (event_name, where) == ("address.attached", address)
        assert len(later) <= 1
    held = held_by(engine)
    assert held.items() <= given.items()
    assert {key for key in given if len(changes[key]) == 1} == set(held)
    check(engine)


@pytest.mark.parametrize("locked", [True, False], ids=["locks", "no locks"])
def test_rivals_never_give_one_address_to_two(
    asked: Asked, engine: Engine, engines: list[Engine], locked: bool
):
    taken = [] if locked else [Unlocked(rival) for rival in engines]
    rivals = compete(asked, engines)
    assert all(lock.taken for lock in taken)
    assert any(rival.given for rival in rivals)
    agree(rivals, engine)
