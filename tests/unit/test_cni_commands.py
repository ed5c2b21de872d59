"""`moorage cni install|uninstall|status`: options, what is printed, exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from compose import cni_commands
from compose.settings import Settings
from tests.cni_worker import FakeWorker, fake_worker
from tests.console_fakes import document, table


class Node:
    """A machine to install on, with its node worker."""

    def __init__(self, folder: Path, shim: Path, worker: FakeWorker) -> None:
        self.shim, self.worker = shim, worker
        self.bin_dir, self.conf_dir = folder / "bin", folder / "net.d"
        self.executable, self.conflist = self.bin_dir / "moorage", self.conf_dir / "10-moorage.conflist"

    def cni(self, command: str, *options: str) -> Result:
        app = typer.Typer()
        cni_commands.register(app)
        places = ("--bin-dir", str(self.bin_dir), "--conf-dir", str(self.conf_dir))
        settings = Settings(cni_socket=self.worker.socket)
        return CliRunner().invoke(app, ["cni", command, *places, *options], obj=settings)

    def install(self, *options: str) -> Result:
        return self.cni("install", "--network", "prod", "--shim", str(self.shim), *options)


@pytest.fixture
def node(tmp_path: Path, shim: Path) -> Iterator[Node]:
    with fake_worker(tmp_path / "cni.sock") as worker:
        yield Node(tmp_path, shim, worker)


def test_install_tells_what_it_did_and_notes_what_is_left_to_do(node: Node):
    result = node.install()
    assert result.exit_code == 0
    assert table(result) == [
        ["executable", f"{node.executable}: installed"],
        ["conflist", f"{node.conflist}: installed"],
    ]
    assert (
        f"note: the container runtime's service needs MOORAGE_CNI_SOCKET={node.worker.socket}"
        in result.stderr
    )
    assert [asked["network"] for asked in node.worker.asked] == ["prod"]
    assert [line[1].split(": ")[1] for line in table(node.install())] == ["unchanged", "unchanged"]


def test_the_options_reach_the_list(node: Node):
    options = ("--pool", "web", "--name", "pods", "--cni-version", "1.1.0", "--chain", "portmap,bandwidth")
    assert node.install(*options, "--no-wait").exit_code == 0
    written = json.loads(node.conflist.read_text())
    assert (written["name"], written["cniVersion"], written["plugins"][0]["pool"]) == ("pods", "1.1.0", "web")
    assert [plugin["type"] for plugin in written["plugins"]] == ["moorage", "portmap", "bandwidth"]
    assert node.worker.asked == [], "--no-wait"


def test_install_waits_aloud_and_gives_up_with_the_reason(node: Node):
    node.worker.reasons += ["not synced"] * 9
    result = node.install("--wait", "0.1", "--output", "json")
    assert result.exit_code == 1
    assert document(result)["error"]["code"] == "timeout"
    assert document(result)["error"]["fields"] == {"reason": "not synced"}
    assert "waiting up to 0.1 s for the node worker: not synced" in result.stderr
    assert not node.conflist.exists()


def test_a_socket_that_is_named_is_the_one_that_is_asked(node: Node, tmp_path: Path):
    result = node.install("--wait", "0", "--socket", str(tmp_path / "other.sock"))
    assert result.exit_code == 1
    assert f"cannot be reached at {tmp_path}/other.sock" in result.stderr


def test_foreign_files_need_force(node: Node):
    node.conf_dir.mkdir()
    node.conflist.write_text("{}")
    refused = node.install()
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"error: {node.conflist} is there and not Moorage's")
    assert node.install("--force").exit_code == 0


def test_an_executable_that_was_not_built_is_told_how(node: Node, tmp_path: Path):
    result = node.install("--shim", str(tmp_path / "nosuch"))
    assert result.exit_code == 1
    assert "make shim" in result.stderr


def test_the_executable_alone_may_be_installed_whoever_is_ready(node: Node):
    node.worker.reasons.append("paused")
    result = node.cni("install", "--shim", str(node.shim), "--shim-only")
    assert result.exit_code == 0
    assert table(result)[1] == ["conflist", f"{node.conflist}: not asked for"]
    assert (node.executable.exists(), node.conflist.exists()) == (True, False)


def test_without_a_network_the_option_is_named(node: Node):
    result = node.cni("install", "--shim", str(node.shim))
    assert result.exit_code == 2
    assert "--network" in result.stderr
    assert not node.executable.exists()


def test_the_images_executable_comes_before_that_of_a_checkout(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    places = (tmp_path / "image", tmp_path / "checkout")
    monkeypatch.setattr(cni_commands, "_BUILT", places)
    missing = node.cni("install", "--network", "prod")
    assert f"there is no {places[1]}: build it (make shim)" in missing.stderr
    for place in reversed(places):
        place.write_bytes(node.shim.read_bytes() + place.name.encode())
        assert node.cni("install", "--network", "prod").exit_code == 0
        assert node.executable.read_bytes().endswith(place.name.encode())


def test_status_shows_each_part_and_ends_with_1_when_one_fails(node: Node):
    assert node.cni("status").exit_code == 1
    node.install()
    result = node.cni("status")
    assert result.exit_code == 0
    assert [line[:2] for line in table(result)] == [
        ["PART", "STATE"],
        ["executable", "ok"],
        ["conflist", "ok"],
        ["order", "ok"],
        ["worker", "ok"],
    ]
    node.worker.reasons.append("paused")
    failed = node.cni("status", "--output", "json")
    assert failed.exit_code == 1
    assert document(failed)["ok"] is False
    worker = {"part": "worker", "state": "fail", "found": "paused", "advice": None}
    assert document(failed)["findings"][-1] == worker


def test_uninstall_keeps_the_executable_until_it_is_told_that_no_pods_are_left(node: Node):
    node.install()
    result = node.cni("uninstall")
    assert [line[1].split(": ")[1] for line in table(result)] == ["kept", "removed"]
    assert "note: Pods that run keep their addresses" in result.stderr
    result = node.cni("uninstall", "--shim-too", "--output", "json")
    assert (document(result)["shim_was"], document(result)["conflist_was"]) == ("removed", "missing")
    assert result.exit_code == 0


def test_the_moorage_command_has_the_group():
    from compose.cli import assemble

    result = CliRunner().invoke(assemble(), ["cni", "install", "--help"], obj=Settings())
    told = " ".join(result.stdout.split())
    assert "/opt/cni/bin" in told
    assert "/etc/cni/net.d" in told
