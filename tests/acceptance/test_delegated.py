"""The reference plugins `macvlan` and `bridge` ask us for addresses: `"ipam": {"type": "moorage"}`."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.hosts import UPLINK
from node_worker.netlink import simulated
from tests.acceptance.machines import Machine, Pod, machine_of, until

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("delegated"),
]
REFERENCE = Path("/usr/lib/cni")
CONF = Path(__file__).parent / "conf"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    # Our own bridge leaves the uplink to macvlan: the kernel lets only one of them have it.
    with machine_of(tmp_path_factory.mktemp("d"), shim, uplink=None) as running:
        yield running


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Path:
    """A folder as a runtime has one: the reference plugins, and ours beside them."""
    folder = tmp_path_factory.mktemp("plugins")
    for name in ("macvlan", "bridge"):
        shutil.copy(REFERENCE / name, folder)
    shutil.copy(shim, folder / "moorage")
    return folder


class Delegating:
    """A pod whose interface another plugin makes, on a simulated host."""

    def __init__(self, machine: Machine, plugins: Path, conf: str, owner: str, node: str) -> None:
        self.pod = Pod(machine, owner, node)
        self._plugins = plugins
        (self._conf,) = json.loads((CONF / f"{conf}.conflist").read_text())["plugins"]
        self._conf |= {"cniVersion": "1.0.0", "name": conf}

    def call(self, command: str, **conf: Any) -> tuple[int, dict[str, Any]]:
        """Exit status and answer of the plugin that the configuration names."""
        pod = self.pod
        namespace, name = pod.owner.split("/")
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": str(simulated.netns_path(pod.netns)),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self._plugins),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}",
            "MOORAGE_CNI_SOCKET": str(pod.node.socket),
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            ["nsenter", f"--net={pod.node.host.path}", self._plugins / self._conf["type"]],
            env=env,
            input=json.dumps(self._conf | conf).encode(),
            capture_output=True,
            timeout=90,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}

    def add(self) -> dict[str, Any]:
        """The result of an ADD that must succeed."""
        status, answer = self.call("ADD")
        assert status == 0, answer
        return answer


def attached(machine: Machine, owner: str) -> list[dict[str, Any]]:
    """What `moorage address list` says of an owner that is attached."""
    shown = machine.command("address", "list", "prod", "--state", "attached", "--output", "json")
    return [row for row in json.loads(shown.stdout)["addresses"] if row["owner"] == owner]


@pytest.mark.parametrize("conf", ["macvlan", "bridge-ipam"])
def test_a_pod_of_another_plugin_has_its_address_from_us_and_keeps_it(
    machine: Machine, plugins: Path, conf: str
) -> None:
    owner = f"shop/web-{len(conf)}"
    first = Delegating(machine, plugins, conf, owner, "node-1")
    result = first.add()
    address = result["ips"][0]["address"]
    assert address.startswith("10.77.0.1")
    assert result["interfaces"][-1]["name"] == "eth0"
    assert address in first.pod.links()
    (row,) = attached(machine, owner)
    assert address.startswith(row["address"] + "/")
    assert first.call("CHECK", prevResult=result) == (0, {})
    first.pod.run("ip", "address", "flush", "dev", "eth0")
    status, answer = first.call("CHECK", prevResult=result)
    assert status == 1, answer
    assert first.call("DEL") == (0, {})
    assert first.call("DEL") == (0, {})
    until(lambda: not attached(machine, owner))
    elsewhere = Delegating(machine, plugins, conf, owner, "node-2")
    assert elsewhere.add()["ips"][0]["address"] == address
    assert elsewhere.call("DEL") == (0, {})


def test_pods_of_two_nodes_reach_one_another_and_no_address_is_given_twice(
    machine: Machine, plugins: Path
) -> None:
    one = Delegating(machine, plugins, "macvlan", "bank/api-0", "node-1")
    other = Delegating(machine, plugins, "macvlan", "bank/api-1", "node-2")
    ours = Pod(machine, "bank/api-2", "node-1")  # of the same network, by our own bridge
    addresses = [pod.add()["ips"][0]["address"].split("/")[0] for pod in (one, other, ours)]
    assert len(set(addresses)) == 3
    assert until(lambda: one.pod.reaches(addresses[1]))
    ours.delete()
    assert [pod.call("DEL") for pod in (one, other)] == [(0, {}), (0, {})]


def test_what_ours_refuses_is_the_other_plugins_error_and_leaves_nothing(
    machine: Machine, plugins: Path
) -> None:
    stranger = Delegating(machine, plugins, "macvlan", "bank/api-9", "node-1")
    ipam = {"type": "moorage", "network": "prod", "pool": "web"}
    status, answer = stranger.call("ADD", ipam=ipam)
    assert (status, answer["code"]) == (1, 103)
    assert "bank/api-9" in answer["msg"]
    assert "eth0" not in stranger.pod.links()
    assert attached(machine, "bank/api-9") == []


def test_a_pod_that_lost_its_address_to_a_fence_is_taken_off_the_network(
    machine: Machine, plugins: Path
) -> None:
    """The node was declared off while it ran: when it compares, its stale pods fall silent."""
    owner = "shop/web-1"
    old = Delegating(machine, plugins, "macvlan", owner, "node-1")
    address = old.add()["ips"][0]["address"]
    node = machine.node("node-1")
    node.process.kill()
    assert machine.command("node", "fence", "node-1", "--reason", "off", "--yes").returncode == 0
    new = Delegating(machine, plugins, "macvlan", owner, "node-2")
    assert until(lambda: new.call("ADD")[0] == 0)
    assert address in new.pod.links()
    node.process.start()
    until(lambda: "state DOWN" in old.pod.run("ip", "link", "show", "eth0").stdout, 60)
    (row,) = attached(machine, owner)
    assert row["node"] == "node-2"
    assert old.call("DEL") == (0, {})
    assert [row["node"] for row in attached(machine, owner)] == ["node-2"]
    assert new.call("DEL") == (0, {})


def test_the_hosts_uplink_stays_as_it_was(machine: Machine) -> None:
    shown = subprocess.run(
        ["nsenter", f"--net={machine.node('node-1').host.path}", "ip", "-o", "link", "show", UPLINK],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert ",UP" in shown.stdout
