"""`moorage cni install --keep`: what it puts back, when it counts as ready, and what it leaves behind."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from cni.conflist import Wanted
from cni.installer import install
from cni.keeping import Keeper
from cni.places import Places
from schemas.errors import Code, ServiceError
from tests.cni_worker import FakeWorker, fake_worker
from tests.conftest import ROOT

PROD = Wanted("prod")
FOREIGN = b'{"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "bridge"}]}'


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "bin", tmp_path / "net.d", tmp_path / "cni.sock")


@pytest.fixture
def worker(places: Places) -> Iterator[FakeWorker]:
    with fake_worker(places.socket) as running:
        yield running


def keeper(places: Places, shim: Path, wanted: Wanted | None = PROD, **options: Any) -> Keeper:
    chosen = {"wait": True, "force": False, "progress": lambda _: None} | options
    return Keeper(places, wanted, shim, **chosen)


def network(places: Places) -> str:
    return str(json.loads(places.conflist.read_text())["plugins"][0]["network"])


def test_what_vanishes_is_put_back(places: Places, shim: Path, worker: FakeWorker):
    told: list[str] = []
    keeping = keeper(places, shim, progress=told.append)
    keeping.look()
    for gone in (places.shim, places.conflist):
        before = gone.read_bytes()
        gone.unlink()
        keeping.look()
        assert gone.read_bytes() == before
        assert keeping.hindrance is None
    assert f"conflist {places.conflist}: installed" in told
    assert told.count("pods can be attached") == 1


def test_what_differs_is_replaced_and_nothing_else_is_written(places: Places, shim: Path, worker: FakeWorker):
    keeping = keeper(places, shim)
    keeping.look()
    before = [path.stat().st_mtime_ns for path in (places.shim, places.conflist)]
    keeping.look()
    assert [path.stat().st_mtime_ns for path in (places.shim, places.conflist)] == before
    install(places, Wanted("lab"), shim, wait_s=None, force=False, progress=lambda _: None)
    places.shim.chmod(0o600)
    keeping.look()
    assert network(places) == "prod"
    assert places.shim.stat().st_mode & 0o777 == 0o755


def test_no_list_is_written_for_a_worker_that_is_not_ready(places: Places, shim: Path, worker: FakeWorker):
    worker.reasons += ["prod is being made"]
    told: list[str] = []
    keeping = keeper(places, shim, progress=told.append)
    assert keeping.hindrance is not None, "before it has looked"
    keeping.look()
    assert keeping.hindrance == "prod is being made"
    assert (places.shim.exists(), places.conflist.exists()) == (True, False)
    assert told[-1] == "waiting: prod is being made"
    keeping.look()
    assert keeping.hindrance is None
    assert network(places) == "prod"


def test_a_list_that_is_there_stays_while_the_worker_is_not_ready(
    places: Places, shim: Path, worker: FakeWorker
):
    install(places, Wanted("lab"), shim, wait_s=None, force=False, progress=lambda _: None)
    worker.reasons += ["no heartbeat was answered"]
    keeping = keeper(places, shim)
    keeping.look()
    assert keeping.hindrance == "no heartbeat was answered"
    assert network(places) == "lab"


def test_a_worker_that_is_away_is_waited_for(places: Places, shim: Path):
    keeping = keeper(places, shim)
    keeping.look()
    assert "there is no socket" in str(keeping.hindrance)
    assert places.shim.exists()
    assert not places.conflist.exists()


def test_without_waiting_the_list_is_written_and_the_node_is_still_not_ready(places: Places, shim: Path):
    keeping = keeper(places, shim, wait=False)
    keeping.look()
    assert network(places) == "prod"
    assert keeping.hindrance is not None


def test_somebody_elses_list_is_left_alone_until_it_is_gone(places: Places, shim: Path, worker: FakeWorker):
    keeping = keeper(places, shim)
    keeping.look()
    places.conflist.write_bytes(FOREIGN)
    keeping.look()
    assert places.conflist.read_bytes() == FOREIGN
    assert "not Moorage's" in str(keeping.hindrance)
    places.conflist.unlink()
    keeping.look()
    assert keeping.hindrance is None


def test_the_executable_alone_is_kept_where_another_plugin_is_the_runtimes(
    places: Places, shim: Path, worker: FakeWorker
):
    places.conf_dir.mkdir()
    places.conflist.write_bytes(FOREIGN)
    keeping = keeper(places, shim, wanted=None)
    keeping.look()
    assert keeping.hindrance is None
    places.shim.unlink()
    worker.reasons += ["no heartbeat was answered"]
    keeping.look()
    assert keeping.hindrance == "no heartbeat was answered"
    assert places.shim.exists()
    assert places.conflist.read_bytes() == FOREIGN


def test_what_could_never_be_installed_is_an_error_at_once(places: Places, shim: Path, tmp_path: Path):
    for wanted, source in ((Wanted("Not A Name"), shim), (PROD, tmp_path / "nosuch")):
        with pytest.raises(ServiceError) as caught:
            keeper(places, source, wanted)
        assert caught.value.code == Code.INVALID_REQUEST


@contextmanager
def process(places: Places, shim: Path) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], int]]]:
    """The command as it runs in a container, and the status that a path of its monitoring answers with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["cni", "install", "--network", "prod", "--keep", "--shim", str(shim)]
    where = ["--bin-dir", str(places.bin_dir), "--conf-dir", str(places.conf_dir)]
    env = {"MOORAGE_MONITORING": f"127.0.0.1:{port}", "MOORAGE_CNI_SOCKET": str(places.socket)}
    command = [sys.executable, "-m", "compose.cli", *words, *where]
    running = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)

    def status(path: str) -> int:
        asked = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            asked.request("GET", path)
            return asked.getresponse().status
        except ConnectionError:
            return 0
        finally:
            asked.close()

    try:
        yield running, status
    finally:
        running.kill()
        running.communicate(timeout=20)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_runs_until_it_is_told_to_stop_and_leaves_all_in_place(
    places: Places, shim: Path, worker: FakeWorker
):
    with process(places, shim) as (running, status):
        until(lambda: status("/readyz") == 200)
        assert status("/healthz") == 200
        places.shim.unlink()
        places.conflist.unlink()
        until(lambda: places.shim.exists() and places.conflist.exists())
        worker.reasons += ["paused"] * 1000
        until(lambda: status("/readyz") == 503)
        assert status("/healthz") == 200, "a worker that waits is no reason to be started again"
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    assert (places.shim.exists(), places.conflist.exists()) == (True, True)
