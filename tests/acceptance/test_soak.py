"""A short soak: that it runs, kills, watches and finds nothing."""

import json
from pathlib import Path

import pytest

from bench.machine import Size, machine
from bench.soak.ledger import Ledger
from bench.soak.soak import run

SEED, SECONDS = 6, 60.0


@pytest.fixture(autouse=True)
def _asked_for(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("markexpr") != "soak":
        pytest.skip("takes minutes: pytest -m soak runs it, and make soak a longer one")


@pytest.mark.soak
@pytest.mark.acceptance
@pytest.mark.netns
@pytest.mark.timeout(1200)
def test_a_minute_of_kills_breaks_no_promise(tmp_path: Path, shim: Path) -> None:
    """The time limit is for a machine that is slow: what is asserted are promises, not seconds."""
    ledger = Ledger(tmp_path / "events.jsonl")
    with machine(Size.QUICK, print) as place:
        run(place, shim, ledger, tmp_path, seed=SEED, seconds=SECONDS, show=lambda *_: None)
    ledger.close()
    assert ledger.violations == (), (
        f"{json.dumps([str(one) for one in ledger.violations], indent=1)}: {tmp_path}"
    )
    assert ledger.kills >= 3
    assert ledger.ops >= 50
