"""What the watcher of a soak takes for an address that is live twice, and for an endpoint that was lost."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from bench.soak.ledger import Ledger
from bench.soak.pods import Pods
from bench.soak.sandbox import Sandbox, Told
from bench.soak.sightings import Look, Seen, broken, clashes
from bench.soak.watcher import Watcher

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TEN, ELEVEN = ip_address("10.0.0.10"), ip_address("10.0.0.11")
MAC = "0a:58:0a:00:00:0a"
TOLD = Told(frozenset({TEN}), MAC)


def look(container: str, second: float = 0, **changes: object) -> Look:
    """A look at a pod that has 10.0.0.10."""
    at = NOON + timedelta(seconds=second)
    about = {"owner": "shop/web-0", "network": "prod", "node": "node-1", "container_id": container}
    seen = {"addresses": frozenset({TEN}), "mac": MAC, "carrier": True}
    return Look(at=at, until=at + timedelta(seconds=0.1), **(about | seen | changes))  # type: ignore[arg-type]


def test_two_namespaces_with_an_address_clash() -> None:
    (clash,) = clashes([look("old"), look("new", 1)])
    assert (clash.address, clash.first.container_id, clash.second.container_id) == (TEN, "old", "new")


@pytest.mark.parametrize(
    "other",
    [
        look("new", carrier=False),
        look("new", network="other"),
        look("new", addresses=frozenset({ELEVEN})),
        look("new", addresses=frozenset()),
    ],
)
def test_an_address_that_is_cut_or_of_another_network_clashes_with_nobodys(other: Look) -> None:
    assert clashes([look("old"), other]) == []


def test_a_clash_is_one_when_the_first_namespace_has_the_address_still() -> None:
    (clash,) = clashes([look("old"), look("new", 1)])
    violation = clash.confirmed(look("old", 2))
    assert violation is not None
    assert violation.rule == "an address is live twice"
    assert "10.0.0.10" in violation.seen


@pytest.mark.parametrize(
    "again", [None, look("old", 2, carrier=False), look("old", 2, addresses=frozenset())]
)
def test_a_clash_is_none_when_the_first_namespace_lost_the_address_meanwhile(again: Look | None) -> None:
    (clash,) = clashes([look("old"), look("new", 1)])
    assert clash.confirmed(again) is None


def test_three_namespaces_with_an_address_are_all_named() -> None:
    assert len(clashes([look("a"), look("b"), look("c")])) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"carrier": False},
        {"addresses": frozenset()},
        {"addresses": frozenset({ELEVEN})},
        {"addresses": frozenset({TEN, ELEVEN})},
        {"mac": "0a:58:0a:00:00:0b"},
        {"mac": None},
    ],
)
def test_an_endpoint_that_is_not_as_its_runtime_was_told_is_lost(changed: dict[str, object]) -> None:
    assert broken(look("c", told=TOLD)) is None
    violation = broken(look("c", told=TOLD, **changed))
    assert violation is not None
    assert violation.rule == "a pod lost its endpoint"


def test_an_endpoint_that_no_runtime_relies_on_may_be_anything() -> None:
    assert broken(look("c", carrier=False)) is None


def test_a_span_is_what_is_certain() -> None:
    seen = Seen()
    seen.add([look("c", 0)])
    seen.add([look("c", 1)])
    seen.add([look("c", 2, carrier=False)])
    assert seen.spans == {
        ("prod", "c", TEN): (NOON + timedelta(seconds=0.1), NOON + timedelta(seconds=1)),
    }


def sandbox(container: str) -> Sandbox:
    """One that exists."""
    return Sandbox("shop/web-0", "prod", "node-1", Path("/nowhere"), container, container, exists=True)


def test_a_round_of_the_watcher_tells_of_each_violation_once(tmp_path: Path) -> None:
    ledger, pods = Ledger(tmp_path / "events"), Pods()
    pods.add(sandbox("old"))
    pods.add(sandbox("new"))
    watcher = Watcher(pods, ledger, lambda one: look(one.container_id))
    watcher.round()
    watcher.round()
    assert [violation.rule for violation in ledger.violations] == ["an address is live twice"]


def test_a_round_reads_the_first_namespace_again_before_it_tells(tmp_path: Path) -> None:
    ledger, pods, read = Ledger(tmp_path / "events"), Pods(), list[str]()
    pods.add(sandbox("old"))
    pods.add(sandbox("new"))

    def released_meanwhile(one: Sandbox) -> Look:
        read.append(one.container_id)
        return look(one.container_id, carrier=read.count(one.container_id) == 1)

    Watcher(pods, ledger, released_meanwhile).round()
    assert read == ["old", "new", "old"]
    assert ledger.violations == ()


def test_a_pod_that_is_away_is_not_read(tmp_path: Path) -> None:
    ledger, pods = Ledger(tmp_path / "events"), Pods()
    gone = sandbox("gone")
    pods.add(gone)
    gone.exists = False
    assert Watcher(pods, ledger, lambda one: look(one.container_id)).round() == []
