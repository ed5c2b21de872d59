"""`moorage up` and `moorage demo` as a person runs them, and that nothing is left of them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from compose.hosts import prefix_of
from node_worker.netlink import simulated
from tests.acceptance.machines import until

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("up"),
]
ROOT = Path(__file__).parent.parent.parent


class Running:
    """A `moorage up` process and the settings it left for other shells."""

    def __init__(self, state_dir: Path, process: subprocess.Popen[str], log: Path) -> None:
        self.state_dir, self.process, self.log = state_dir, process, log

    @property
    def env(self) -> dict[str, str]:
        """What `source env` sets."""
        lines = (self.state_dir / "env").read_text().splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def command(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command in another shell."""
        quoted = {key: value.strip("'") for key, value in self.env.items()}
        return subprocess.run(
            [sys.executable, *words],
            env={**os.environ, **quoted, **env},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def moorage(self, *words: str) -> str:
        """What a `moorage` command that must succeed prints."""
        done = self.command("-m", "compose.cli", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state_dir = tmp_path_factory.mktemp("up")
    log = state_dir / "up.log"
    words = [sys.executable, "-m", "compose.cli", "up", "--nodes", "2", "--state-dir", str(state_dir)]
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=out, text=True) as process:
        found = Running(state_dir, process, log)
        try:
            until(lambda: "Ctrl-C stops it" in log.read_text() or process.poll() is not None, 120)
            assert process.poll() is None, log.read_text()
            yield found
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()


def processes_of(state_dir: Path) -> list[str]:
    """Command lines of all processes that name the state folder, or live in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(entry.name) != os.getpid() and str(state_dir) in command + environment:
            found.append(command)
    return found


def producer_block() -> str:
    """The Python block of the README."""
    match = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert match is not None
    return match[1]


def test_a_producer_with_nothing_but_pika_creates_a_network(running: Running):
    enrolled = json.loads(
        running.moorage("client", "enroll", "team-a", "--role", "producer", "--output", "json")
    )
    url = next(value for value in enrolled.values() if str(value).startswith("amqp://"))
    done = running.command("-c", producer_block(), PRODUCER_URL=url)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["error"] is None
    assert {node["state"] for node in answer["result"]["nodes"]} == {"ready"}
    networks = json.loads(running.moorage("network", "list", "--output", "json"))["networks"]
    assert [network["network"] for network in networks] == ["lab"]


def test_nodes_are_listed(running: Running):
    nodes = json.loads(running.moorage("node", "list", "--output", "json"))["nodes"]
    assert [(node["node"], node["state"]) for node in nodes] == [("node-1", "ready"), ("node-2", "ready")]


def test_the_link_that_is_printed_lets_one_browser_into_the_console(running: Running):
    link = re.search(r"Open the console: (\S+)", running.log.read_text())
    assert link is not None
    with httpx.Client(base_url=link[1].partition("/sign-in/")[0], timeout=30) as browser:
        assert browser.get(link[1]).status_code == 200
        assert browser.post(link[1]).headers["Location"] == "/networks"
        assert "<h1>Networks</h1>" in browser.get("/networks").text
        browser.cookies.clear()
        assert browser.post(link[1]).status_code == 403, "it was used"
        assert browser.get("/networks").headers["Location"] == "/sign-in"


def test_a_second_up_in_the_same_folder_is_refused_in_words(running: Running):
    words = ["-m", "compose.cli", "up", "--state-dir", str(running.state_dir)]
    done = running.command(*words, MOORAGE_MANAGEMENT_URL="", MOORAGE_AMQP_URL="")
    assert done.returncode == 1
    assert str(running.state_dir) in (done.stdout + done.stderr).replace("\n", "")
    assert running.process.poll() is None


def test_after_ctrl_c_nothing_is_left(running: Running):
    prefix = prefix_of(running.state_dir)
    assert any(name.startswith(prefix) for name in simulated.netns_names())
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0, running.log.read_text()
    assert not [name for name in simulated.netns_names() if name.startswith(prefix)]
    assert processes_of(running.state_dir) == []


def test_the_demo_holds_and_leaves_nothing(tmp_path: Path, shim: Path):
    words = [sys.executable, "-m", "compose.cli", "demo", "--folder", str(tmp_path), "--shim", str(shim)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=170, check=False)
    last = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r"demo: (\d+) of \1 steps held", last), done.stdout + done.stderr
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []
