"""What a HEALTHCHECK runs: it asks where MOORAGE_MONITORING says, and ends with what it heard."""

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from compose.health_probe import main
from compose.listener import listening
from compose.monitoring import application
from schemas.health import Check, Health

WELL = Health.of(Check(name="part", ok=True, message=""))
ILL = Health.of(Check(name="part", ok=False, message="it is broken"))


def test_the_answer_decides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with listening("127.0.0.1:0", application(CollectorRegistry(), lambda: WELL, lambda: ILL)) as address:
        monkeypatch.setenv("MOORAGE_MONITORING", address)
        assert (main(), main("/healthz"), main("/readyz")) == (0, 0, 1)
        assert "it is broken" in capsys.readouterr().out
        port = address.rpartition(":")[2]
        monkeypatch.setenv("MOORAGE_MONITORING", f"0.0.0.0:{port}")
        assert main() == 0, "a process that listens everywhere is asked here"


@pytest.mark.parametrize("address", ["", "nowhere", "127.0.0.1:1"])
def test_where_nobody_answers_it_is_not_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
):
    monkeypatch.setenv("MOORAGE_MONITORING", address)
    assert main() == 1
    assert f"nothing answers at MOORAGE_MONITORING '{address}'" in capsys.readouterr().out


def test_it_needs_nothing_but_the_standard_library():
    """It is started every few seconds."""
    asked = "import compose.health_probe, sys; print('pydantic' in sys.modules, 'typer' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=30, check=True
    )
    assert told.stdout == "False False\n"
