"""Network namespaces: which are pods, and the simulated hosts made of them."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from node_worker.host import Host
from node_worker.netlink import simulated
from node_worker.netlink.bridge import ensure_bridge
from node_worker.netlink.namespace import Netns
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
