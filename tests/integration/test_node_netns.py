"""Network namespaces: which are pods, and the simulated hosts made of them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from node_worker.host import Host
from node_worker.netlink import simulated
from node_worker.netlink.bridge import ensure_bridge
from node_worker.netlink.namespace import Netns
from node_worker.netlink.veth import link_names
from schemas.errors import Code, ServiceError
from tests.node_lab import Lab, bridge, links_of

pytestmark = pytest.mark.netns


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        made = Lab(stack)
        yield made
    assert [name for name in simulated.netns_names() if name.startswith(made.name(""))] == []


def test_the_thread_is_in_its_own_namespace_again_also_after_a_failure(lab: Lab) -> None:
    host = lab.netns("host")
    with pytest.raises(ServiceError):
        ensure_bridge(host, bridge(uplink="eth7"))
    parents = Path(f"/proc/{os.getppid()}/ns/net").readlink()
    assert Path("/proc/thread-self/ns/net").readlink() == parents


NO_WAY_BACK = """
import sys
from node_worker.netlink import namespace

entered = namespace._enter
def enter(fd, path):
    if path == "the worker's own":
        raise namespace.ServiceError(namespace.Code.KERNEL_REFUSED, "no way back")
    entered(fd, path)

namespace._enter = enter
with namespace.Netns(sys.argv[1]) as pod:
    try:
        with pod.entered():
            pass
    finally:
        print("went on")
"""


def test_a_worker_that_cannot_leave_a_pods_namespace_ends_at_once(lab: Lab) -> None:
    """Its next connection would be made from inside the pod."""
    pod = lab.netns("pod")
    command = [sys.executable, "-c", NO_WAY_BACK, pod.path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (os.EX_OSERR, "")
    assert "caught in a pod's namespace" in ended.stderr


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "fifo", "device", "other namespace"])
def test_a_path_that_is_no_network_namespace_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "netns"
    match kind:
        case "file":
            path.write_text("")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)  # opening it would wait for a writer
        case "device":
            path = Path("/dev/null")
        case "other namespace":
            path = Path("/proc/self/ns/mnt")
    with pytest.raises(ServiceError) as caught:
        Netns(str(path))
    assert caught.value.code == Code.NETNS_UNUSABLE
    assert str(path) in caught.value.message


def test_the_nodes_own_namespaces_are_no_pods(lab: Lab) -> None:
    wired = lab.netns("host")
    with Host(Path(wired.path)) as host:
        for path in ("/proc/self/ns/net", wired.path):
            with pytest.raises(ServiceError, match="the node's own") as caught:
                host.open_pod(path)
            assert caught.value.code == Code.NETNS_UNUSABLE
        with host.open_pod(lab.netns("pod").path) as pod:
            assert not host.has_link(pod, "eth0")


@pytest.fixture
def elsewhere(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A pod's namespace outside the folders for it."""
    path = tmp_path / "kept" / "pod"
    path.parent.mkdir()
    path.touch()
    subprocess.run(["mount", "--bind", lab.netns("pod").path, path], check=True, timeout=10)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True, timeout=10)


def test_a_namespace_outside_the_folders_is_no_pod_unless_its_folder_is_named(elsewhere: Path):
    with Host(None) as host, pytest.raises(ServiceError, match="MOORAGE_NETNS_FOLDERS") as caught:
        host.open_pod(str(elsewhere))
    assert caught.value.code == Code.NETNS_UNUSABLE
    with Host(None, [elsewhere.parent]) as host, host.open_pod(str(elsewhere)) as pod:
        assert pod.inode == elsewhere.stat().st_ino
    with Host(elsewhere) as host:  # what a setting names may be anywhere
        assert link_names(host._wired)


def test_a_link_does_not_lead_out_of_the_folders_but_a_folder_may_be_a_link(elsewhere: Path, tmp_path: Path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "pod").symlink_to(elsewhere)
    before = len(open_files())
    with Host(None, [inside]) as host:
        opened = len(open_files())
        with pytest.raises(ServiceError, match=f"leads to {elsewhere}") as caught:
            host.open_pod(str(inside / "pod"))
        # `caught` keeps the frames and what they hold: nothing is closed by being forgotten
        assert len(open_files()) == opened > before, f"what was refused is closed: {caught.value}"
    (tmp_path / "link").symlink_to(elsewhere.parent)
    with Host(None, [tmp_path / "link"]) as host, host.open_pod(str(tmp_path / "link" / "pod")) as pod:
        assert pod.inode == elsewhere.stat().st_ino


def test_a_link_from_outside_does_not_lead_in(lab: Lab, tmp_path: Path):
    (tmp_path / "pod").symlink_to(lab.netns("pod").path)
    with Host(None) as host, pytest.raises(ServiceError, match="is not in a folder that is allowed"):
        host.open_pod(str(tmp_path / "pod"))


def test_a_processs_namespace_is_a_pod(lab: Lab):
    netns = lab.netns("pod")
    inside = ["nsenter", f"--net={netns.path}", "cat"]
    with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"inside\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"inside\n"
        with Host(None) as host, host.open_pod(f"/proc/{process.pid}/ns/net") as pod:
            assert pod.is_same(netns)
        process.stdin.close()


def open_files() -> list[Path]:
    return list(Path("/proc/self/fd").iterdir())


def test_a_simulated_host_is_made_once_and_removed_twice(lab: Lab) -> None:
    name = lab.name("made")
    simulated.create_netns(name)
    try:
        assert name in simulated.netns_names()
        with pytest.raises(ServiceError, match="EEXIST"):
            simulated.create_netns(name)
    finally:
        simulated.remove_netns(name)
    simulated.remove_netns(name)
    assert name not in simulated.netns_names()


def test_an_underlay_that_cannot_be_finished_leaves_nothing(lab: Lab) -> None:
    host = lab.netns("host")
    with pytest.raises(ServiceError):
        simulated.connect_hosts(lab.name("underlay"), [lab.name("host"), lab.name("nosuch")])
    assert lab.name("underlay") not in simulated.netns_names()
    limit = time.monotonic() + 5  # the kernel takes a namespace's links down a moment after its end
    while "eth1" in links_of(host):
        assert time.monotonic() < limit
