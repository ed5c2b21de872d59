"""Containers that a real podman attaches with its CNI backend: fixed addresses, pods and mapped ports."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_worker.netlink import simulated
from schemas.address import AddressList, AddressPage, AddressShow, AddressView
from tests.acceptance.hosts import inside, links
from tests.acceptance.machines import Machine, machine_of, until
from tests.acceptance.podman import Podman, podman_on

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("podman"),
]
HOST = "10.77.0.254"
CONNECT = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).recv(99))"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    with machine_of(tmp_path_factory.mktemp("p"), shim, nodes=1) as running:
        running.network("lab", "10.92.0.0/24")
        pinned = ["--policy", "pinned", "--range", "10.77.0.40-10.77.0.49", "--owner", "container:web*"]
        reserved = ["--policy", "reserved", "--range", HOST]
        for words in (["named", *pinned, "--allow-mac"], ["host", *reserved]):
            made = running.command("pool", "create", "prod", *words)
            assert made.returncode == 0, made.stderr
        # A host that maps ports reaches its containers by an address of its own on the network's bridge.
        inside(running.node("node-1").host.path, "ip", "addr", "add", f"{HOST}/24", "dev", "mo-prod")
        yield running


@pytest.fixture(scope="module")
def running(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_on(machine.node("node-1"), machine.shim, tmp_path_factory.mktemp("d") / "1") as podman:
        yield podman


@pytest.fixture(scope="module")
def bare(running: Podman) -> set[str]:
    """The links of the host without containers."""
    return links(running.host)


@pytest.fixture
def podman(
    machine: Machine, running: Podman, bare: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Podman]:
    """No test leaves a container, or anything of one. One at a time: podmans share a folder."""
    with (tmp_path_factory.getbasetemp().parent / "podman.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        namespaces = namespaces_of_containers()
        yield running
        running.empty()
        assert links(running.host) == bare
        until(lambda: not attached(machine))
        assert namespaces_of_containers() == namespaces


def namespaces_of_containers() -> set[str]:
    """Those that podman makes, by its names: other tests make theirs meanwhile."""
    return {name for name in simulated.netns_names() if name.startswith("netns-")}


def shown(machine: Machine, address: str, network: str = "prod") -> AddressView:
    return machine.ask(AddressShow.model_validate({"network": network, "address": address}), AddressView)


def attached(machine: Machine) -> list[AddressView]:
    queries = [{"network": network, "state": "attached"} for network in ("prod", "lab")]
    pages = [machine.ask(AddressList.model_validate(query), AddressPage) for query in queries]
    return [address for page in pages for address in page.addresses]


def test_a_container_gets_its_address_and_mac_again_under_its_name(machine: Machine, podman: Podman):
    first = podman.run("web-0", "--network", "podman-prod")
    (ip,), interface = first.addresses("podman-prod"), first.interface("eth0")
    assert interface[0] == [f"{ip}/24"]
    held = shown(machine, ip)
    assert (held.owner, held.pool, held.container_id) == ("container:web-0", "named", first.id)
    first.remove()
    until(lambda: shown(machine, ip).state == "waiting")
    second = podman.run("web-0", "--network", "podman-prod")
    assert second.id != first.id
    assert (second.addresses("podman-prod"), second.interface("eth0")) == ([ip], interface)


def test_an_address_and_a_mac_may_be_fixed(machine: Machine, podman: Podman):
    wish = "podman-prod:ip=10.77.0.45,mac=02:00:00:00:00:45"
    fixed = podman.run("web-1", "--network", wish)
    assert fixed.addresses("podman-prod") == ["10.77.0.45"]
    assert fixed.interface("eth0") == (["10.77.0.45/24"], "02:00:00:00:00:45")


def test_an_address_that_is_not_its_own_is_refused_with_the_reason(machine: Machine, podman: Podman):
    podman.run("web-2", "--network", "podman-prod:ip=10.77.0.46")
    before = links(podman.host)
    wish = ["--network", "podman-prod:ip=10.77.0.46", *podman.rootfs("web-3"), "/sleeper"]
    refused = podman.attempt("run", "--detach", "--name", "web-3", *wish)
    assert refused.returncode != 0
    assert "10.77.0.46" in refused.stderr
    assert "container:web-2" in refused.stderr
    assert [address.owner for address in attached(machine)] == ["container:web-2"]
    assert links(podman.host) == before


def test_a_container_may_be_on_two_networks(machine: Machine, podman: Podman):
    wishes = ["podman-prod:interface_name=eth0", "podman-lab:interface_name=eth1"]
    both = podman.run("web-4", *(f"--network={wish}" for wish in wishes))
    (prod,), (lab,) = both.addresses("podman-prod"), both.addresses("podman-lab")
    assert (both.interface("eth0")[0], both.interface("eth1")[0]) == ([f"{prod}/24"], [f"{lab}/24"])
    assert (shown(machine, prod).ifname, shown(machine, lab, "lab").ifname) == ("eth0", "eth1")
    both.remove()
    until(lambda: shown(machine, prod).state == "waiting")
    until(lambda: shown(machine, lab, "lab").state == "free")


def test_the_containers_of_a_pod_share_its_address(machine: Machine, podman: Podman):
    pod = ["--name", "web-shop", "--infra-command", "/sleeper", "--network", "podman-prod"]
    podman("pod", "create", *pod)
    one, other = (podman.run(name, "--pod", "web-shop") for name in ("web-5", "web-6"))
    assert one.interface("eth0") == other.interface("eth0")
    assert one.netns.stat().st_ino == other.netns.stat().st_ino
    (address,) = attached(machine)
    assert (address.owner, address.pool) == ("container:web-shop", "named")
    assert one.interface("eth0")[0] == [f"{address.address}/24"]
    one.remove()
    assert attached(machine) == [address]
    podman("pod", "rm", "--force", "--time", "0", "web-shop")
    until(lambda: not attached(machine))


def test_a_mapped_port_reaches_the_container(machine: Machine, podman: Podman):
    published = ["--network", "podman-prod", "--publish", "8080:80"]
    listener = podman.run("web-7", *published, program=("/listener", "80"))
    until(lambda: "0050" in (listener.netns.parent.parent / "net" / "tcp").read_text())
    assert "connected" in inside(podman.host, sys.executable, "-c", CONNECT, HOST, "8080")
    assert listener.id in inside(podman.host, "iptables-save", "-t", "nat")
    listener.remove()
    assert listener.id not in inside(podman.host, "iptables-save", "-t", "nat")


def test_a_container_that_ended_by_itself_gives_its_address_back(machine: Machine, podman: Podman):
    ended = podman.run("web-8", "--network", "podman-prod")
    (ip,) = ended.addresses("podman-prod")
    os.kill(podman.inspect("web-8")["State"]["Pid"], signal.SIGKILL)
    until(lambda: shown(machine, ip).state == "waiting")
    calls = podman.plugins.calls(ended.id)
    assert [call.command for call in calls] == ["ADD", "DEL"]
