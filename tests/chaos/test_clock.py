"""A node whose clock is an hour off, or jumps by one while it runs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.chaos.stage import Stage, address_of, code_of

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
"""What stands between a process and the kernel's clocks, where it is installed (Debian's libfaketime)."""


def test_a_clock_an_hour_off_on_a_node(unbegun: Stage):
    """Deadlines are the database's time, so ADD works, and nothing is released; nor at the jumps."""
    if not LIBRARIES:
        pytest.skip("libfaketime is missing, which `make chaos` installs: a process keeps the kernel's clock")
    stage = unbegun
    clock = stage.folder / "clock"
    clock.write_text("+0")
    stage.node_env["node-1"] = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the kernel never sets that one
    }
    stage.begin()
    held = [stage.pod(f"bank/api-{number}") for number in range(2)]
    addresses = [address_of(pod.add()) for pod in held]
    for number, hours in enumerate(("+1h", "-1h", "+0")):
        clock.write_text(hours)
        pod = stage.pod(f"bank/new-{number}")
        assert code_of(pod.call("ADD")) == 0
        assert code_of(stage.status("node-1")) == 0
        stage.restart("node-1")
        assert hours_off(stage.log_of("node-1")) == float(hours.removesuffix("h"))
        pod.delete()
        for pod, address in zip(held, addresses, strict=True):
            assert address in pod.links()
    assert stage.node_states()["node-1"] == "ready"
    for number, address in enumerate(addresses):
        assert stage.events(f"bank/api-{number}") == ["address.attached"], address


def hours_off(log: str) -> float:
    """By how many hours the process that wrote the last line has another time than we, to the half hour."""
    told = datetime.fromisoformat(json.loads(log.splitlines()[-1])["timestamp"])
    return round((told - datetime.now(UTC)) / timedelta(minutes=30)) / 2
