"""The CNI plugin's files on a node: what is written when, what is never touched, what a kill leaves."""

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cni.conflist import Wanted, sorted_before
from cni.executable import is_shim
from cni.installer import Installed, install, uninstall
from cni.netconf import SUPPORTED_VERSIONS, read_configuration
from cni.places import Places
from schemas.errors import Code, ServiceError
from tests.cni_worker import fake_worker
from tests.conftest import ROOT

PROD = Wanted("prod")
S390 = b"\x16\x00"
"""What stands at offset 18 of an executable for another machine than those the tests run on (elf(5))."""
FOREIGN = b'{"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "bridge"}]}'


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "bin", tmp_path / "net.d", tmp_path / "cni.sock")


def installed(places: Places, shim: Path, wanted: Wanted = PROD, **options: Any) -> Installed:
    """Without asking the node worker, unless told otherwise."""
    chosen = {"wait_s": None, "force": False, "progress": lambda _: None} | options
    return install(places, wanted, shim, **chosen)


def listed(places: Places) -> Any:
    return json.loads(places.conflist.read_text())


def files(places: Places) -> set[str]:
    return {path.name for folder in (places.bin_dir, places.conf_dir) for path in folder.glob("*")}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_executable_and_the_list_are_put_in_their_places(places: Places, shim: Path):
    umask = os.umask(0o077)
    try:
        done = installed(places, shim)
    finally:
        os.umask(umask)
    assert (done.shim_was, done.conflist_was) == ("installed", "installed")
    assert places.shim.read_bytes() == shim.read_bytes()
    assert (mode(places.shim), mode(places.conflist)) == (0o755, 0o600)
    capabilities = {"io.kubernetes.cri.pod-annotations": True, "ips": True, "mac": True}
    plugin = {"type": "moorage", "network": "prod", "capabilities": capabilities}
    assert listed(places) == {"cniVersion": "1.0.0", "name": "moorage", "plugins": [plugin]}
    assert files(places) == {"moorage", "10-moorage.conflist"}


def test_what_is_asked_for_stands_in_the_list(places: Places, shim: Path):
    installed(places, shim, Wanted("prod", "web", "pods", "1.1.0", ("portmap", "bandwidth")))
    written = listed(places)
    assert (written["cniVersion"], written["name"], written["plugins"][0]["pool"]) == ("1.1.0", "pods", "web")
    assert [plugin["type"] for plugin in written["plugins"]] == ["moorage", "portmap", "bandwidth"]
    assert written["plugins"][1]["capabilities"] == {"portMappings": True}
    assert written["plugins"][2]["capabilities"] == {"bandwidth": True}


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_the_node_worker_reads_what_is_written(places: Places, shim: Path, version: str):
    installed(places, shim, Wanted("prod", "web", cni_version=version))
    written = listed(places)
    passed = written["plugins"][0] | {"name": written["name"], "cniVersion": written["cniVersion"]}
    conf = read_configuration(json.dumps(passed).encode())
    assert (conf.cniVersion, conf.network, conf.pool) == (version, "prod", "web")


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (Wanted("Not A Name"), "network"),
        (Wanted("prod", pool="Not A Pool"), "pool"),
        (Wanted("prod", name="a/b"), "name"),
        (Wanted("prod", cni_version="0.2.0"), "1.1.0"),
        (Wanted("prod", chain=("portmap", "calico")), "calico"),
    ],
)
def test_what_no_runtime_could_use_is_refused_before_anything_is_written(
    places: Places, shim: Path, wanted: Wanted, named: str
):
    with pytest.raises(ServiceError, match=named) as caught:
        installed(places, shim, wanted)
    assert caught.value.code == Code.INVALID_REQUEST
    assert files(places) == set()


def test_repeating_changes_nothing_and_says_so(places: Places, shim: Path):
    installed(places, shim)
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in (places.shim, places.conflist)]
    done = installed(places, shim)
    assert (done.shim_was, done.conflist_was) == ("unchanged", "unchanged")
    assert before == [
        (path.stat().st_ino, path.stat().st_mtime_ns) for path in (places.shim, places.conflist)
    ]


def test_what_differs_in_content_or_mode_is_replaced(places: Places, shim: Path):
    installed(places, shim)
    places.shim.chmod(0o644)
    done = installed(places, shim, Wanted("lab"))
    assert (done.shim_was, done.conflist_was) == ("replaced", "replaced")
    assert listed(places)["plugins"][0]["network"] == "lab"
    assert mode(places.shim) == 0o755
    assert files(places) == {"moorage", "10-moorage.conflist"}


def test_there_is_no_list_before_the_node_worker_is_ready(places: Places, shim: Path):
    told: list[str] = []
    seen: list[set[str]] = []
    with fake_worker(places.socket, "prod is being made", "prod is being made") as worker:
        worker.hook = lambda: seen.append(files(places))
        installed(places, shim, wait_s=30, progress=told.append)
    assert seen == [{"moorage"}] * 3
    assert files(places) == {"moorage", "10-moorage.conflist"}
    assert told == ["waiting up to 30 s for the node worker: prod is being made"], "once for each reason"


def test_status_is_asked_about_the_lists_network_in_a_version_that_has_it(places: Places, shim: Path):
    with fake_worker(places.socket) as worker:
        installed(places, shim, Wanted("prod", "web", cni_version="0.4.0"), wait_s=0)
    (asked,) = worker.asked
    assert (asked["cniVersion"], asked["network"], asked["pool"]) == ("1.1.0", "prod", "web")


def test_a_worker_that_does_not_become_ready_is_an_error_and_the_old_list_stays(places: Places, shim: Path):
    with pytest.raises(ServiceError, match="there is no socket") as caught:
        installed(places, shim, wait_s=0)
    assert caught.value.code == Code.TIMEOUT
    assert "was not written" in caught.value.message
    assert files(places) == {"moorage"}
    installed(places, shim)
    with fake_worker(places.socket, "paused"), pytest.raises(ServiceError, match="paused"):
        installed(places, shim, Wanted("lab"), wait_s=0)
    assert listed(places)["plugins"][0]["network"] == "prod"


def test_a_foreign_list_is_never_overwritten_unless_forced(places: Places, shim: Path):
    places.conf_dir.mkdir()
    places.conflist.write_bytes(FOREIGN)
    with pytest.raises(ServiceError, match=r"not Moorage's.*--force"):
        installed(places, shim)
    assert places.conflist.read_bytes() == FOREIGN
    assert files(places) == {"10-moorage.conflist"}, "the executable neither"
    assert installed(places, shim, force=True).conflist_was == "replaced"
    assert listed(places)["plugins"][0]["type"] == "moorage"


def test_a_foreign_executable_is_neither_overwritten_nor_run(places: Places, shim: Path, tmp_path: Path):
    places.bin_dir.mkdir()
    wrapper = f"#!/bin/sh\ntouch {tmp_path}/ran\nMOORAGE_CNI_SOCKET=/x exec /opt/moorage\n"
    places.shim.write_text(wrapper)
    places.shim.chmod(0o755)
    with pytest.raises(ServiceError, match=r"not Moorage's.*--force"):
        installed(places, shim)
    assert places.shim.read_text() == wrapper
    assert not (tmp_path / "ran").exists()
    assert installed(places, shim, force=True).shim_was == "replaced"
    assert is_shim(places.shim.read_bytes())


@pytest.mark.parametrize("kind", ["missing", "foreign", "other machine"])
def test_an_executable_that_cannot_serve_here_is_refused_and_the_one_in_place_stays(
    places: Places, shim: Path, tmp_path: Path, kind: str
):
    installed(places, shim)
    content = bytearray(shim.read_bytes())
    source = tmp_path / "source"
    match kind:
        case "foreign":
            source.write_bytes(b"\x7fELF something else")
        case "other machine":
            content[18:20] = S390
            source.write_bytes(content)
    with pytest.raises(ServiceError, match="--shim") as caught:
        installed(places, source)
    assert caught.value.code == Code.INVALID_REQUEST
    assert ("not made for this machine" in caught.value.message) == (kind == "other machine")
    assert places.shim.read_bytes() == shim.read_bytes()
    assert files(places) == {"moorage", "10-moorage.conflist"}


def test_an_executable_in_place_that_does_not_run_is_not_taken_for_installed(places: Places, shim: Path):
    installed(places, shim)
    content = bytearray(shim.read_bytes())
    content[18:20] = S390
    places.shim.write_bytes(content)
    with pytest.raises(ServiceError, match="not made for this machine"):
        installed(places, places.shim)


KILLED = """
import os, signal, sys
from pathlib import Path
from cni.placing import place
place(Path(sys.argv[1]), b"half", 0o600, lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def killed(target: Path) -> Path:
    """The temporary file that a process leaves when it is killed between writing and renaming."""
    done = subprocess.run([sys.executable, "-c", KILLED, target], cwd=ROOT, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = {path for path in target.parent.iterdir() if path.name.startswith(".")}
    return left


def test_a_kill_before_the_rename_leaves_nothing_that_counts_and_the_next_install_removes_it(
    places: Places, shim: Path
):
    installed(places, shim)
    before = places.conflist.read_bytes()
    left = killed(places.conflist)
    assert left.suffix not in {".conf", ".conflist", ".json"}, "no runtime loads it"
    assert places.conflist.read_bytes() == before
    killed(places.shim)
    stranger = places.conf_dir / ".10-moorage.conflist.mine.new"
    stranger.touch()
    assert installed(places, shim).conflist_was == "unchanged"
    assert files(places) == {"moorage", "10-moorage.conflist", stranger.name}


def test_uninstall_removes_what_a_kill_left_too(places: Places, shim: Path):
    installed(places, shim)
    killed(places.conflist)
    uninstall(places, shim_too=False)
    assert files(places) == {"moorage"}


def test_two_at_work_in_one_folder_do_not_meet(places: Places, shim: Path):
    places.bin_dir.mkdir()
    folder = os.open(places.bin_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(ServiceError, match="another `moorage cni` command") as caught:
            installed(places, shim)
    finally:
        os.close(folder)
    assert caught.value.retryable
    assert installed(places, shim).shim_was == "installed"


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "make room"), (errno.EROFS, "read-only"), (errno.EACCES, "as root"), (errno.EIO, "look")],
)
def test_a_disk_that_refuses_is_told_with_advice_and_what_was_there_stays(
    monkeypatch: pytest.MonkeyPatch, places: Places, shim: Path, number: int, advice: str
):
    installed(places, shim)

    def fsync(descriptor: int) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(ServiceError, match=advice) as caught:
            installed(places, shim, Wanted("lab"))
    assert caught.value.fields == {"path": str(places.conflist), "errno": errno.errorcode[number]}
    assert listed(places)["plugins"][0]["network"] == "prod"
    assert files(places) == {"moorage", "10-moorage.conflist"}


def test_a_folder_that_cannot_be_is_told(places: Places, shim: Path):
    places.bin_dir.write_text("a file")
    with pytest.raises(ServiceError, match="part of that path is not a folder"):
        installed(places, shim)
    places.bin_dir.unlink()
    places.shim.mkdir(parents=True)
    with pytest.raises(ServiceError, match="a folder has that name"):
        installed(places, shim)


def test_runtimes_come_to_the_configurations_in_the_order_of_their_bytes(tmp_path: Path):
    for name in (
        "05-a.conf",
        "1-b.conflist",
        "10-a.json",
        "0-notes.txt",
        ".0.new",
        "20-c.conflist",
        "é.conf",
    ):
        (tmp_path / name).touch()
    assert sorted_before(tmp_path / "10-moorage.conflist") == ["05-a.conf", "1-b.conflist", "10-a.json"]


def test_what_may_keep_pods_from_being_attached_is_noticed(places: Places, shim: Path):
    assert "MOORAGE_CNI_SOCKET" in "".join(installed(places, shim).notices)
    usual = Places(places.bin_dir, places.conf_dir, Path("/run/moorage/cni.sock"))
    assert installed(usual, shim).notices == ()
    (usual.conf_dir / "05-cilium.conflist").touch()
    (order,) = installed(usual, shim).notices
    assert "05-cilium.conflist sorts before" in order
    (usual.conf_dir / "05-cilium.conflist").unlink()
    (renamed, missing) = installed(usual, shim, Wanted("prod", name="pods", chain=("portmap", "sbr"))).notices
    assert "the configuration's name was moorage" in renamed
    assert f"{usual.bin_dir}/portmap is missing; {usual.bin_dir}/sbr is missing: every ADD" in missing


@pytest.mark.parametrize(
    ("script", "version", "told"),
    [
        (
            'echo \'{"supportedVersions": ["0.4.0", "1.0.0"]}\'',
            "1.1.0",
            "speaks CNI 0.4.0, 1.0.0 and not 1.1.0",
        ),
        ('echo \'{"supportedVersions": ["0.4.0", "1.0.0"]}\'', "1.0.0", None),
        ("exit 1", "1.0.0", "does not run here"),
    ],
)
def test_a_plugin_of_the_chain_must_speak_the_lists_version(
    places: Places, shim: Path, script: str, version: str, told: str | None
):
    places.bin_dir.mkdir()
    portmap = places.bin_dir / "portmap"
    portmap.write_text(f"#!/bin/sh\n{script}\n")
    portmap.chmod(0o755)
    done = installed(places, shim, Wanted("prod", cni_version=version, chain=("portmap",)))
    about = [notice for notice in done.notices if str(portmap) in notice]
    assert about == ([f"{portmap} {told}: every ADD fails until that is mended"] if told else [])


def test_uninstall_keeps_the_executable_for_the_dels_to_come(places: Places, shim: Path):
    installed(places, shim)
    done = uninstall(places, shim_too=False)
    assert (done.conflist_was, done.shim_was) == ("removed", "kept")
    assert "--shim-too" in done.notices[0]
    assert files(places) == {"moorage"}
    again = uninstall(places, shim_too=True)
    assert (again.conflist_was, again.shim_was, again.notices) == ("missing", "removed", ())
    assert files(places) == set()
    assert places.conf_dir.is_dir(), "containerd watches the folder itself"


@pytest.mark.parametrize("shim_too", [True, False])
def test_uninstall_takes_nothing_foreign_and_is_content_with_nothing(places: Places, shim_too: bool):
    assert uninstall(places, shim_too=shim_too).conflist_was == "missing"
    for path, content in ((places.conflist, FOREIGN), (places.shim, b"#!/bin/sh\n")):
        path.parent.mkdir()
        path.write_bytes(content)
    done = uninstall(places, shim_too=shim_too)
    assert (done.conflist_was, done.shim_was) == ("foreign", "foreign")
    assert files(places) == {"moorage", "10-moorage.conflist"}


def test_the_list_goes_before_the_executable(monkeypatch: pytest.MonkeyPatch, places: Places, shim: Path):
    installed(places, shim)
    seen = []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        seen.append((path.name, files(places)))
        os.unlink(path)  # noqa: PTH108

    monkeypatch.setattr(Path, "unlink", unlink)
    uninstall(places, shim_too=True)
    assert seen == [("10-moorage.conflist", {"moorage", "10-moorage.conflist"}), ("moorage", {"moorage"})]
