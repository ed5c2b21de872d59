"""Interfaces that another plugin made, in namespaces that are found by their inode."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from uuid import uuid4

import pytest

from node_worker.attachments import Attachment
from node_worker.drivers.delegated import DELEGATED
from node_worker.host import Host
from node_worker.netlink import foreign, simulated
from node_worker.netlink.foreign import Identity
from node_worker.netlink.session import inside
from tests.conftest import ROOT
from tests.node_lab import Lab

pytestmark = pytest.mark.netns
ADDRESS = ip_interface("10.20.0.5/24")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(stack)


def fill(lab: Lab) -> Identity:
    """A pod with an interface that has the address."""
    pod = lab.netns("pod")
    with inside(pod) as links:
        links.add("eth0", "veth", peer={"ifname": "other"}, state="up")
    subprocess.run(
        ["nsenter", f"--net={pod.path}", "ip", "address", "add", str(ADDRESS), "dev", "eth0"],
        timeout=10,
        check=True,
    )
    return Identity(pod.inode, pod.cookie())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_with_the_address_is_set_down(lab: Lab) -> None:
    pod = fill(lab)
    path = str(simulated.netns_path(lab.name("pod")))
    foreign.silence(path, pod, "eth0", frozenset({ip_interface("10.20.0.6/24")}))
    assert _up(path), "it has another address by now: not ours to touch"
    foreign.silence(path, replace(pod, cookie=pod.cookie + 1), "eth0", frozenset({ADDRESS}))
    assert _up(path), "another namespace is at that path by now"
    foreign.silence(path, pod, "eth1", frozenset({ADDRESS}))
    foreign.silence(path, pod, "eth0", frozenset({ADDRESS}))
    assert not _up(path)


def test_a_namespace_is_found_by_its_processes_when_its_path_is_gone(lab: Lab) -> None:
    pod = fill(lab)
    path = str(simulated.netns_path(lab.name("pod")))
    inner = subprocess.Popen(["nsenter", f"--net={path}", "sleep", "60"])
    try:
        proc = f"/proc/{inner.pid}/ns/net"
        until(lambda: Path(proc).stat().st_ino == pod.inode)
        assert foreign.gone([pod]) == set()
        foreign.silence("/run/netns/not-there", pod, "eth0", frozenset({ADDRESS}))
        assert not _up(proc)
    finally:
        inner.kill()
        inner.wait(10)


def test_a_namespace_lives_as_long_as_a_mount_or_a_process_holds_it(lab: Lab) -> None:
    pod = fill(lab)

    def lives() -> bool:
        return foreign.gone([pod]) == set()

    assert lives(), "the mount of `ip netns` holds it"
    path = simulated.netns_path(lab.name("pod"))
    inner = subprocess.Popen(["nsenter", f"--net={path}", "sleep", "60"])
    try:
        until(lambda: Path(f"/proc/{inner.pid}/ns/net").stat().st_ino == pod.inode)
        simulated.remove_netns(lab.name("pod"))
        assert lives(), "a process is in it"
    finally:
        inner.kill()
        inner.wait(10)
    until(lambda: not lives())


def test_another_namespace_with_the_same_inode_is_another(lab: Lab) -> None:
    """The kernel gives an inode away as soon as it is free: to the pod that comes next."""
    pod = fill(lab)
    assert foreign.gone([replace(pod, cookie=pod.cookie + 1)]) == {replace(pod, cookie=pod.cookie + 1)}
    assert foreign.gone([replace(pod, cookie=0)]) == set(), "an older kernel has none: the inode has to do"


def test_a_worker_that_does_not_see_the_hosts_processes_knows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert foreign.gone([Identity(4711, 1)]) == {Identity(4711, 1)}
    monkeypatch.setattr(foreign, "_HOSTS_PROCESSES", 1)
    assert foreign.gone([Identity(4711, 1)]) == set()


def test_a_worker_that_may_not_look_at_other_processes_knows_nothing() -> None:
    asked = "from node_worker.netlink.foreign import Identity, gone; print(gone([Identity(4711, 1)]))"
    trusted = [sys.executable, "-c", asked]
    assert told(trusted) == "{Identity(inode=4711, cookie=1)}"
    capabilities = ["--bounding-set", "-all,+net_admin,+sys_admin", "--inh-caps", "-all"]
    assert told(["setpriv", *capabilities, *trusted]) == "set()"


def told(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def test_a_host_tells_which_delegated_pods_are_gone(lab: Lab) -> None:
    pod = fill(lab)
    row = Attachment(
        attachment_id=uuid4(),
        network="prod",
        conf_name="lan",
        container_id="c1",
        ifname="eth0",
        owner="shop/web-0",
        netns="/run/netns/not-there",
        netns_device=4,
        netns_inode=pod.inode,
        netns_cookie=pod.cookie,
        boot_id="boot",
        driver=DELEGATED,
        bridge="",
        host_link="mo0123456789abc",
    )
    gone = replace(row, attachment_id=uuid4(), netns_cookie=pod.cookie + 1)
    with Host(None) as host:
        assert host.missing([row, gone]) == {gone.attachment_id}, "no link of theirs counts"
        assert host.missing([replace(row, driver="bridge")]) == {row.attachment_id}, "and one of ours does"


def _up(path: str) -> bool:
    shown = subprocess.run(
        ["nsenter", f"--net={path}", "ip", "-o", "link", "show", "eth0"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return "state DOWN" not in shown.stdout and ",UP" in shown.stdout
