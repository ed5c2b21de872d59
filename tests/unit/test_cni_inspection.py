"""What is found of an installation that is whole, and of each part that is not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni.conflist import Wanted
from cni.inspection import Inspected, inspect
from cni.installer import install
from cni.places import Places
from tests.cni_worker import fake_worker


@pytest.fixture
def places(tmp_path: Path, shim: Path) -> Places:
    """A whole installation with portmap behind it."""
    made = Places(tmp_path / "bin", tmp_path / "net.d", tmp_path / "cni.sock")
    made.bin_dir.mkdir()
    (made.bin_dir / "portmap").symlink_to(shim)
    wanted = Wanted("prod", chain=("portmap",))
    install(made, wanted, shim, wait_s=None, force=False, progress=lambda _: None)
    return made


@pytest.fixture
def _ready(places: Places) -> Iterator[None]:
    with fake_worker(places.socket):
        yield


def states(inspected: Inspected) -> dict[str, str]:
    return {item.part: item.state for item in inspected.findings}


def found(places: Places, part: str) -> str:
    (finding,) = [item for item in inspect(places).findings if item.part == part]
    return f"{finding.found}: {finding.advice}"


def rewritten(places: Places, **changed: Any) -> None:
    document = json.loads(places.conflist.read_text()) | changed
    places.conflist.write_text(json.dumps(document))


@pytest.mark.usefixtures("_ready")
def test_a_whole_installation_is_ok_in_every_part(places: Places):
    inspected = inspect(places)
    assert states(inspected) == dict.fromkeys(("executable", "conflist", "order", "chain", "worker"), "ok")
    assert inspected.ok
    assert "0.3.1, 0.4.0, 1.0.0, 1.1.0" in found(places, "executable")


def test_a_worker_that_is_away_or_not_ready_is_a_failure_in_its_own_words(places: Places):
    inspected = inspect(places)
    assert not inspected.ok
    assert states(inspected)["worker"] == "fail"
    assert "start it with 'moorage node'" in found(places, "worker")
    with fake_worker(places.socket, "network prod is not here yet"):
        assert "network prod is not here yet" in found(places, "worker")


@pytest.mark.usefixtures("_ready")
def test_another_configuration_before_ours_is_a_warning_and_no_failure(places: Places):
    (places.conf_dir / "00-multus.conf").touch()
    inspected = inspect(places)
    assert inspected.ok
    assert states(inspected)["order"] == "warn"
    assert "00-multus.conf" in found(places, "order")


@pytest.mark.usefixtures("_ready")
def test_a_plugin_of_the_chain_that_is_missing_is_a_failure(places: Places):
    (places.bin_dir / "portmap").unlink()
    assert states(inspect(places))["chain"] == "fail"
    assert not inspect(places).ok


@pytest.mark.usefixtures("_ready")
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no"),
        (b"#!/bin/sh\n", "not Moorage's"),
        (b"\x7fELF MOORAGE_CNI_SOCKET", "does not run"),
    ],
)
def test_an_executable_that_cannot_serve_is_a_failure_and_nobody_is_asked(
    places: Places, content: bytes | None, told: str
):
    places.shim.unlink()
    if content is not None:
        places.shim.write_bytes(content)
        places.shim.chmod(0o755)
    inspected = inspect(places)
    assert (states(inspected)["executable"], states(inspected)["worker"]) == ("fail", "fail")
    assert told in found(places, "executable")
    assert "not asked" in found(places, "worker")


def test_an_executable_without_its_permission_to_run_is_a_failure(places: Places):
    places.shim.chmod(0o644)
    assert "permission denied" in found(places, "executable")


@pytest.mark.usefixtures("_ready")
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"plugins": [{"type": "bridge"}]}, "is not Moorage's"),
        ({"plugins": []}, "no list of plugins"),
        ({"plugins": [{"type": "moorage"}]}, "network"),
        ({"cniVersion": "0.2.0"}, "0.2.0 is not one of"),
        ({"cniVersion": None}, "cniVersion"),
    ],
)
def test_a_list_that_cannot_be_used_is_a_failure(places: Places, changed: dict[str, Any], told: str):
    rewritten(places, **changed)
    assert told in found(places, "conflist")
    assert set(states(inspect(places))) == {"executable", "conflist", "worker"}
    assert not inspect(places).ok


@pytest.mark.parametrize(("content", "told"), [(None, "there is no"), (b"{", "not JSON"), (b"[]", "no list")])
def test_a_list_that_is_missing_or_broken_is_a_failure(places: Places, content: bytes | None, told: str):
    places.conflist.unlink()
    if content is not None:
        places.conflist.write_bytes(content)
    assert told in found(places, "conflist")
    assert "moorage cni install" in found(places, "conflist")
